"""The last position, taken by Gather and Unsqueeze or by Slice, becomes one Gather."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_last_token import NormaliseLastToken
from tests.graph_passes.contrib import apply, changes_nothing, exported, floats, graph, run, weight

X = np.arange(24, dtype=np.float32).reshape(1, 3, 8)


def gathered(*, axis: int = 1, back: int = 1) -> ir.Model:
    x, y = floats("x", 1, "S", 8), floats("y", 1, 1, 8)
    weights = {"last": weight("last", np.array(-1)), "axes": weight("axes", np.array([back]))}
    gather = ir.node("Gather", [x, weights["last"]], {"axis": axis}, name="gather")
    return graph([gather, ir.node("Unsqueeze", [gather.outputs[0], weights["axes"]], outputs=[y])], [x], [y], weights)


def sliced(*, start: int = -1, end: int = 2**63 - 1, axis: int = 1) -> ir.Model:
    x, y = floats("x", 1, "S", 8), floats("y", 1, 1, 8)
    numbers = {"start": start, "end": end, "axis": axis}
    weights = {name: weight(name, np.array([number])) for name, number in numbers.items()}
    return graph([ir.node("Slice", [x, *weights.values()], outputs=[y], name="slice")], [x], [y], weights)


@pytest.mark.parametrize("make", [gathered, sliced])
def test_one_gather_of_the_last_position(make: Callable[[], ir.Model]) -> None:
    model = make()
    [before] = run(model, {"x": X})
    assert len(apply(NormaliseLastToken(), model).matches) == 1
    [node] = model.graph
    assert (node.op_type, node.attributes["axis"].value) == ("Gather", 1)
    assert np.array_equal(run(model, {"x": X})[0], before)
    assert changes_nothing(NormaliseLastToken(), model)


def test_pruned_head_of_genai() -> None:
    model = exported("genai_int4_prune")
    assert apply(NormaliseLastToken(), model).matches == ["/lm_head/prune/Gather"]


@pytest.mark.parametrize(
    ("model", "reason", "value"),
    [
        (gathered(axis=2, back=2), "not of the sequence axis", "2"),
        (gathered(back=0), "the axis is not put back", "[0]"),
        (sliced(axis=2), "not of the sequence axis", "[2]"),
        (sliced(end=-5), "not the last position alone", "[-5]"),
    ],
)
def test_near_misses_decline(model: ir.Model, reason: str, value: str) -> None:
    result = apply(NormaliseLastToken(), model)
    assert not result.modified and [(d.reason, d.value) for d in result.declines] == [(reason, value)]


def test_other_positions_are_no_candidates() -> None:
    result = apply(NormaliseLastToken(), sliced(start=-2))
    assert not result.modified and not result.declines
