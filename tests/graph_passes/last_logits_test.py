"""The last position is taken before the final norm; graphs that have one, or no such head, stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.last_logits import LastLogits
from tests.graph_passes.contrib import apply, changes_nothing
from tests.graph_passes.models import exported, session
from tests.models import cached_run
from tests.tiny_gemma3 import VOCAB_SIZE

IDS = np.random.default_rng(0).integers(0, VOCAB_SIZE, 9)


def logits(model: ir.Model) -> np.ndarray:
    one = session(model)
    return cached_run.run(one, IDS, cached_run.pasts(one, 0), 0)[0]


def test_only_the_last_position_is_left(tiny_gguf: Path) -> None:
    model = exported(tiny_gguf, "all")
    every = logits(model)
    assert len(apply(LastLogits(), model).matches) == 1
    assert model.graph.outputs[0].shape == ir.Shape([1, 1, VOCAB_SIZE])
    norm = model.graph.outputs[0].producer().inputs[0].producer()
    assert norm.op_type == "RMSNormalization" and norm.inputs[0].producer().op_type == "Gather"
    last = logits(model)
    assert last.shape == (1, VOCAB_SIZE)
    np.testing.assert_allclose(last[0], every[-1], rtol=0, atol=5e-5)  # logits reach 79; measured 8e-6
    assert changes_nothing(LastLogits(), model)


def test_a_graph_of_the_last_position_is_no_candidate(tiny_gguf: Path) -> None:
    model = exported(tiny_gguf, "last")
    result = apply(LastLogits(), model)
    assert not result.modified and not result.declines


def no_norm(model: ir.Model) -> None:
    head = model.graph.outputs[0].producer()
    head.replace_input_with(0, head.inputs[0].producer().inputs[0])


def read_norm(model: ir.Model) -> None:
    normed = model.graph.outputs[0].producer().inputs[0]
    model.graph.append(ir.node("Identity", [normed], name="spy"))


def softcap(model: ir.Model) -> None:
    old = model.graph.outputs[0]
    old.name = "uncapped"
    capped = ir.node("Tanh", [old])
    capped.outputs[0].name = "logits"
    model.graph.append(capped)
    model.graph.outputs[0] = capped.outputs[0]


def gathered_but_unknown(model: ir.Model) -> None:
    model.graph.outputs[0].shape = None


@pytest.mark.parametrize(
    ("kind", "change", "reason", "value"),
    [
        ("all", no_norm, "no head after a final norm makes the logits", "MatMul"),
        ("all", read_norm, "no head after a final norm makes the logits", "MatMul"),
        ("all", softcap, "no head after a final norm makes the logits", "Tanh"),
        ("last", gathered_but_unknown, "positions are gathered already", ""),
    ],
)
def test_other_heads_decline(tiny_gguf: Path, kind: str, change, reason: str, value: str) -> None:
    model = exported(tiny_gguf, kind)
    change(model)
    [decline] = apply(LastLogits(), model).declines
    assert decline.reason == reason and value in decline.value
