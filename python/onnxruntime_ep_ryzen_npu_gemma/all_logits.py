"""Opens a model so that it gives the logits of every position: a converted folder, or the original model as it is.

An original model (GGUF file, Hugging Face folder) is exported to standard ONNX with its weights in float32 and runs on
onnxruntime's CPU provider: the truth that a conversion is measured against. The export is as large as the weights in
float32 and lives in a temporary folder while the model is open.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .decoder import Decoder
from .errors import Problem

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ALL_LOGITS_FILE", "AllLogitsModel", "open_all_logits"]

ALL_LOGITS_FILE = "model_all_logits.onnx"
_CHUNK = 128  # positions a call: Gemma's logits of one are 1 MB
_PACKAGE_FILES = ("model.onnx", "genai_config.json")


@dataclass(frozen=True)
class AllLogitsModel:
    """A model that is open.

    Attributes:
        decoder: runs it; gives logits of all positions.
        tokenizer: of this model.
        bos_id: the token that starts every sequence.
    """

    decoder: Decoder
    tokenizer: Tokenizer
    bos_id: int

    def logits(self, ids: Sequence[int]) -> Iterator[np.ndarray]:
        """Runs a sequence from its start; gives float32 logits [T, V], T positions after T, in order."""
        self.decoder.reset()
        for start in range(0, len(ids), _CHUNK):
            yield self.decoder.forward(ids[start : start + _CHUNK]).astype(np.float32, copy=False)


@contextmanager
def open_all_logits(
    path: Path, context: int, *, device: str, accuracy: str, threads: int | None
) -> Iterator[AllLogitsModel]:
    """Opens a converted folder, a GGUF file or a Hugging Face folder.

    Args:
        path: the model.
        context: the longest sequence that will run; what the model takes if that is less.
        device: where a converted model runs, see `open_session`.
        accuracy: "exact" or "fast", see `open_session`; an original model is exact.
        threads: see `open_session`.

    Raises:
        Problem: it is none of these, or was converted without `--logits all`.
    """
    if any((path / name).exists() for name in _PACKAGE_FILES):
        yield _open_converted(path, context, device, accuracy, threads)
    else:
        with tempfile.TemporaryDirectory(prefix="ryzen-npu-gemma-") as folder:
            yield _open_original(path, Path(folder), context, threads)


def _open_converted(path: Path, context: int, device: str, accuracy: str, threads: int | None) -> AllLogitsModel:
    from .model_folder import open_model_folder
    from .session import open_session

    folder = open_model_folder(path)
    if not (path / ALL_LOGITS_FILE).is_file():
        raise Problem("this model gives the logits of the last position only", path, f"no {ALL_LOGITS_FILE}",
                      "convert it with `--logits all`")  # fmt: skip
    session, _ = open_session(path / ALL_LOGITS_FILE, device=device, accuracy=accuracy, threads=threads)
    decoder = Decoder(session, min(context, folder.context_length), folder.windows)
    return AllLogitsModel(decoder, folder.tokenizer(), folder.bos_id)


def _open_original(path: Path, folder: Path, context: int, threads: int | None) -> AllLogitsModel:
    import onnx_ir as ir
    import onnxruntime as ort

    from .models import gemma3_text
    from .sources import open_source
    from .tokenizer import write_tokenizer

    source = open_source(path)
    tokenizer = write_tokenizer(source, folder)
    ir.save(gemma3_text.export(source, "all"), folder / ALL_LOGITS_FILE, external_data=f"{ALL_LOGITS_FILE}.data")
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads or 0
    session = ort.InferenceSession(folder / ALL_LOGITS_FILE, options, providers=["CPUExecutionProvider"])
    decoder = Decoder(session, min(context, source.config.max_positions), None)
    return AllLogitsModel(decoder, tokenizer, source.config.bos_token_id)
