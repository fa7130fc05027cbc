"""The models of the accuracy table: how each is made from the same float32 weights, how it runs, what it weighs."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import gguf
import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from onnxruntime_ep_ryzen_npu_gemma import cli
from onnxruntime_ep_ryzen_npu_gemma.all_logits import open_all_logits
from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from tests.bench import texts
from tests.bench.accuracy import llama
from tests.exporters import exported_run, real_model
from tests.exporters.environments import run_exporter

__all__ = ["WINDOW", "GenaiModel", "LlamaCppModel", "LogitsModel", "Model", "Q4nxModel", "Weights", "float32_weights"]

WINDOW = 2048
_VOCABULARY, _HEAD_DIM, _LAYER_WINDOW = 262144, 256, 512  # of 270M
_CHUNK = 128


class Weights(NamedTuple):
    """What models are made of.

    Attributes:
        demo: the demo's GGUF file, some of whose matrices are in 4 bits.
        float32: a GGUF file with the same values in float32.
    """

    demo: Path
    float32: Path


class LogitsModel(Protocol):
    """A model that is open."""

    def logits(self, ids: Sequence[int]) -> Iterator[np.ndarray]:
        """Runs a sequence from its start; gives float32 logits [T, V], 128 positions after 128, in order."""


class Model(Protocol):
    """One line of the table."""

    name: str

    def make(self, weights: Weights, path: Path) -> None:
        """Makes the model at a path."""

    def open(self, path: Path) -> contextlib.AbstractContextManager[LogitsModel]:
        """Opens what `make` has made."""

    def weight_files(self, path: Path) -> list[Path]:
        """The files that hold the weights."""

    def bits(self, path: Path) -> str:
        """Bits a weight, scales included and padding not, of the projections and of the head."""


@dataclass(frozen=True)
class Q4nxModel:
    """`convert` with options; TEXT among them is the calibration text. It runs on the EP's host device.

    With `kept_codes` it is made of the demo's file, whose 4-bit codes `convert` keeps.
    """

    name: str
    options: tuple[str, ...]
    kept_codes: bool = False

    def make(self, weights: Weights, path: Path) -> None:
        """See `Model`."""
        source = weights.demo if self.kept_codes else weights.float32
        options = [str(texts.devil()) if option == "TEXT" else option for option in self.options]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = cli.main(["convert", str(source), str(path), "--logits", "all", "--force", *options, "--json"])
        if code:
            raise SystemExit(f"convert {self.name}: {out.getvalue()}")

    @contextmanager
    def open(self, path: Path) -> Iterator[LogitsModel]:
        """See `Model`."""
        with open_all_logits(path, WINDOW, device="host", accuracy="exact", threads=None) as model:
            yield model

    def weight_files(self, path: Path) -> list[Path]:
        """See `Model`."""
        return [path / "model.onnx.data"]

    def bits(self, path: Path) -> str:
        """See `Model`."""
        block = q4nx.BLOCK_ROWS * q4nx.BLOCK_COLS
        graph = ir.load(path / "model.onnx").graph
        (head,) = (node.attributes["bits"].as_int() for node in graph if node.op_type == "EmbedNBits")
        body = next(node.attributes["bits"].as_int() for node in graph if node.op_type == "MatMulNBits")
        return " / ".join(f"{8 * q4nx.BLOCK_BYTES[bits] / block:.1f}" for bits in (body, head))


@dataclass(frozen=True)
class LlamaCppModel:
    """llama.cpp's quantiser and run."""

    name: str
    ftype: str
    pure: bool = False

    def make(self, weights: Weights, path: Path) -> None:
        """See `Model`."""
        llama.quantize(weights.float32, path, self.ftype, pure=self.pure)

    @contextmanager
    def open(self, path: Path) -> Iterator[LogitsModel]:
        """See `Model`."""
        with contextlib.closing(llama.LlamaCppModel(path, _VOCABULARY)) as model:
            yield model

    def weight_files(self, path: Path) -> list[Path]:
        """See `Model`."""
        return [path]

    def bits(self, path: Path) -> str:
        """See `Model`."""
        tensors = [tensor for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) == 2]
        parts = [[t for t in tensors if (t.name == "token_embd.weight") == head] for head in (False, True)]
        sizes = [(sum(int(t.n_bytes) for t in part), sum(int(t.n_elements) for t in part)) for part in parts]
        return " / ".join(f"{8 * size / elements:.1f}" for size, elements in sizes)


@dataclass(frozen=True)
class GenaiModel:
    """onnxruntime-genai's model builder; the graph runs on onnxruntime's CPU provider, as genai runs it."""

    name: str
    options: tuple[str, ...]

    def make(self, weights: Weights, path: Path) -> None:
        """See `Model`."""
        hf = real_model.hf_folder(weights.float32, weights.float32.with_name("hf"))
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        options = ("--precision", "int4", "--options", "windowed_kv_cache=false", *self.options)
        run_exporter("genai_builder", hf, path / "model.onnx", *options)

    @contextmanager
    def open(self, path: Path) -> Iterator[LogitsModel]:
        """See `Model`."""
        yield _GenaiSession(ort.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"]))

    def weight_files(self, path: Path) -> list[Path]:
        """See `Model`."""
        return [path / "model.onnx.data"]

    def bits(self, path: Path) -> str:
        """See `Model`."""
        graph = ir.load(path / "model.onnx").graph
        totals = {False: [0, 0], True: [0, 0]}  # of the body, of the head: bytes, weights
        for node in graph:
            if node.op_type == "MatMulNBits":
                total = totals[node.outputs[0].name == "logits"]
                total[0] += sum(_nbytes(value, graph) for value in node.inputs[1:])
                total[1] += node.attributes["K"].as_int() * node.attributes["N"].as_int()
        return " / ".join(f"{8 * size / weights:.1f}" for size, weights in totals.values())


class _GenaiSession:
    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def logits(self, ids: Sequence[int]) -> Iterator[np.ndarray]:
        chunks = [min(_CHUNK, len(ids) - start) for start in range(0, len(ids), _CHUNK)]
        return exported_run.stream_logits(
            self._session, np.array(ids, np.int64), chunks, head_dim=_HEAD_DIM, window=_LAYER_WINDOW
        )


def _nbytes(value: ir.Value | None, graph: ir.Graph) -> int:
    if value is None:
        return 0
    while value.const_value is None:  # a view of the head's codes
        producer = value.producer()
        assert producer is not None and producer.inputs[0] is not None
        value = producer.inputs[0]
    return value.const_value.nbytes


def float32_weights(demo: Path, path: Path) -> Weights:
    """Writes the demo's weights as a GGUF file in float32, unless it is there."""
    if path.exists():
        return Weights(demo, path)
    reader = gguf.GGUFReader(demo)
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "gemma3")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            writer.add_key_value(name, field.contents(), field.types[0], field.types[-1])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)
    return Weights(demo, path)
