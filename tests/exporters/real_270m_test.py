"""The real Gemma3-270M through every exporter: it fuses, and the fused graph gives the logits of the exported one.

Slow: each exporter runs in its own environment on 1 GB of weights.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import fuse
from tests.exporters import exported_run, real_model
from tests.exporters.environments import run_exporter

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "build/exporters/real-270m"
_LAYERS, _WINDOW, _HEAD_DIM = 18, 512, 256
_FP32 = {
    "genai_builder": ("--precision", "fp32"),
    "optimum_export": (),
    "torch_dynamo": ("--opset", "23"),
    "mobius_export": (),
    "own_export": (),
}
_MAX_ERROR_RATIO = 2  # of errors against transformers, fused to exported: the bound


@pytest.fixture(scope="module")
def hf_folder(demo_gguf: Path) -> Path:
    return real_model.hf_folder(demo_gguf, _FOLDER / "hf")


@functools.cache
def _ids(hf_folder: Path) -> np.ndarray:
    """620 tokens, so that the window bites."""
    tokenizer = Tokenizer.from_file(str(hf_folder / "tokenizer.json"))
    return np.array(tokenizer.encode((_ROOT / "LICENSE").read_text(encoding="utf-8")).ids[:620], np.int64)


def _exported(exporter: str, hf_folder: Path, *options: str) -> Path:
    path = _FOLDER / exporter / "model.onnx"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    run_exporter(exporter, hf_folder, path, *options)
    return path


def _logits(path: Path, ids: np.ndarray, first: int) -> np.ndarray:
    """Logits of the positions from `first` on."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    # The prompt in one call, the rest token by token: also graphs that give the last logits alone can be compared.
    chunks = [first, *[1] * (len(ids) - first)]
    return exported_run.logits(session, ids, chunks, head_dim=_HEAD_DIM, window=_WINDOW)[-len(chunks) + 1 :]


@pytest.fixture(scope="module")
def truth(hf_folder: Path) -> np.ndarray:
    import torch
    from transformers import Gemma3ForCausalLM

    hf = Gemma3ForCausalLM.from_pretrained(hf_folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = _ids(hf_folder)
    with torch.no_grad():
        return hf(torch.from_numpy(ids[None]), logits_to_keep=20).logits[0].numpy()


@pytest.mark.parametrize("exporter", _FP32)
def test_float_export_fuses_and_keeps_its_logits(exporter: str, hf_folder: Path, truth: np.ndarray) -> None:
    path = _exported(exporter, hf_folder, *_FP32[exporter])
    ids = _ids(hf_folder)
    model = ir.load(path)
    report = fuse(model, kv_dtype=ir.DataType.FLOAT, quantize=False)
    assert report.counts == {"FlowQKV": _LAYERS}, [str(decline) for decline in report.declines]
    fused_path = path.with_name("fused.onnx")
    ir.save(model, fused_path, external_data="fused.onnx.data")
    before, after = (_logits(file, ids, len(ids) - 20) for file in (path, fused_path))
    errors = [float(np.linalg.norm(logits - truth) / np.linalg.norm(truth)) for logits in (before, after)]
    print(exporter, "errors before and after:", errors)
    assert errors[1] <= _MAX_ERROR_RATIO * errors[0]
    assert before.argmax(-1).tolist() == after.argmax(-1).tolist()
    assert not fuse(ir.load(fused_path), kv_dtype=ir.DataType.FLOAT, quantize=False).modified

    quantised = ir.load(path)
    fuse(quantised).expect(_LAYERS)
    shutil.rmtree(path.parent)  # 1 to 3 GB


def test_int4_export_of_genai_fuses(hf_folder: Path) -> None:
    """The builder's own codes, requantised: near the graph that it made, in which 4 bits have lost most already."""
    path = _exported("genai_builder", hf_folder, "--precision", "int4", "--options", "accuracy_level=0")
    ids = _ids(hf_folder)
    model = ir.load(path)
    report = fuse(model, kv_dtype=ir.DataType.FLOAT)
    report.expect(_LAYERS)
    fused_path = path.with_name("fused.onnx")
    ir.save(model, fused_path, external_data="fused.onnx.data")
    before, after = (_logits(file, ids, len(ids) - 20) for file in (path, fused_path))
    error = float(np.linalg.norm(after - before) / np.linalg.norm(before))
    print("genai int4: relative error of the logits", error)
    assert error <= 0.02
    assert before.argmax(-1).tolist() == after.argmax(-1).tolist()
    shutil.rmtree(path.parent)
