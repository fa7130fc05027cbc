"""Packed projections become one product each, with weights cut when they are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.lazy_weights import Sliced
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.split_packed_projections import SplitPackedProjections
from tests.exporters import rtn
from tests.graph_passes.contrib import CONTRIB, apply, changes_nothing, exported, floats, graph, run, weight
from tests.graph_passes.models import nodes

K, SIZES = 64, (32, 16, 16)
N = sum(SIZES)


def packed(*, quantized: bool = False, equal: bool = False, flat: bool = False) -> ir.Model:
    """One product and its Split; quantised weights with zero points, in one axis if `flat`."""
    w_NK = np.random.default_rng(0).standard_normal((N, K)).astype(np.float32)
    a = floats("A", 1, "S", K)
    whole = floats("whole", 1, "S", N)
    if quantized:
        parts = rtn.quantize(w_NK, rtn.Format(4, 32, True), np.dtype(np.float32))
        flatten = (lambda x: x.reshape(-1)) if flat else (lambda x: x)
        names = ("B", "scales", "zeros")
        weights = {name: weight(name, flatten(x) if name != "B" else x) for name, x in zip(names, parts, strict=True)}
        attributes = {"K": K, "N": N, "bits": 4, "block_size": 32, "accuracy_level": 0}
        node = ir.node("MatMulNBits", [a, *weights.values()], attributes, domain=CONTRIB, outputs=[whole], name="qkv")
    else:
        weights = {"w": weight("w", w_NK.T.copy())}
        node = ir.node("MatMul", [a, weights["w"]], outputs=[whole], name="qkv")
    sizes = (32, 32) if equal else SIZES
    outputs = [floats(f"y{i}", 1, "S", size) for i, size in enumerate(sizes)]
    if equal:
        split = ir.node("Split", [whole], {"axis": -1, "num_outputs": 2}, outputs=outputs, name="split")
        return graph([node, split], [a], outputs, weights)
    weights["sizes"] = weight("sizes", np.array(sizes))
    split = ir.node("Split", [whole, weights["sizes"]], {"axis": 2}, outputs=outputs, name="split")
    return graph([node, split], [a], outputs, weights)


@pytest.mark.parametrize(
    "options", [{}, {"equal": True}, {"quantized": True}, {"quantized": True, "flat": True}], ids=str
)
def test_numbers_are_equal(options: dict[str, bool]) -> None:
    a = np.random.default_rng(1).standard_normal((1, 3, K)).astype(np.float32)
    before = run(packed(**options), {"A": a})
    model = packed(**options)
    assert apply(SplitPackedProjections(), model).matches == ["qkv"]
    assert not nodes(model, "Split") and len(model.graph) == len(before)
    for old, new in zip(before, run(model, {"A": a}), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-5)  # measured 4e-6 at products of 30
    assert changes_nothing(SplitPackedProjections(), model)


def test_weights_are_cut_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sliced, "_slice", lambda self: pytest.fail(f"{self.name} was read"))
    assert len(apply(SplitPackedProjections(), exported("genai_int4")).matches) == 8


def test_packed_input_of_group_query_attention() -> None:
    """The attention takes k and v from the one product of q, k and v, as the CUDA export may have it."""
    model = exported("genai_int4_cuda")
    for attention in nodes(model, "GroupQueryAttention"):
        split = attention.inputs[0].producer()
        attention.replace_input_with(0, split.inputs[0])
        attention.replace_input_with(1, None)
        attention.replace_input_with(2, None)
        model.graph.remove(split, safe=True)
    assert len(apply(SplitPackedProjections(), model).matches) == 8
    for attention in nodes(model, "GroupQueryAttention"):
        made = [value.producer() for value in attention.inputs[:3]]
        assert [node.attributes["N"].value for node in made] == [256, 128, 128]


def test_gate_and_up() -> None:
    result = apply(SplitPackedProjections(), exported("genai_int4_gate_up"))
    assert len(result.matches) == 16 and not result.declines


def first_axis(model: ir.Model) -> None:
    nodes(model, "Split")[0].attributes.add(ir.AttrInt64("axis", 1))


def computed_sizes(model: ir.Model) -> None:
    split = nodes(model, "Split")[0]
    same = ir.node("Add", [split.inputs[1], split.inputs[1]], name="sizes_of_a_call")
    model.graph.insert_before(split, same)
    split.replace_input_with(1, same.outputs[0])


def not_the_whole(model: ir.Model) -> None:
    model.graph.initializers["sizes"].const_value = ir.tensor(np.array([32, 16, 8]), name="sizes")


def weights_are_an_input(model: ir.Model) -> None:
    model.graph.inputs.append(model.graph.initializers["w"])


@pytest.mark.parametrize(
    ("change", "reason", "value"),
    [
        (first_axis, "the Split is not over the last axis", "1"),
        (computed_sizes, "the sizes of the Split are computed", "val"),
        (not_the_whole, "the parts are not the whole", "[32, 16, 8] of 64 columns"),
        (weights_are_an_input, "weights are a graph input", "w"),
    ],
    ids=lambda x: x.__name__ if callable(x) else "",
)
def test_near_misses_decline(change: Callable[[ir.Model], None], reason: str, value: str) -> None:
    model = packed()
    change(model)
    result = apply(SplitPackedProjections(), model)
    assert not result.modified
    [decline] = result.declines
    assert (decline.node, decline.reason) == ("qkv", reason) and value in decline.value


def test_a_bias_declines() -> None:
    model = packed(quantized=True)
    node = model.graph.node("qkv")
    model.graph.register_initializer(weight("bias", np.zeros(N, np.float32)))
    node.resize_inputs(6)
    node.replace_input_with(5, model.graph.initializers["bias"])
    [decline] = apply(SplitPackedProjections(), model).declines
    assert (decline.reason, decline.value) == ("it has a g_idx or a bias", "['bias']")


def test_a_product_that_others_read_is_no_candidate() -> None:
    model = packed()
    whole = model.graph.node("qkv").outputs[0]
    model.graph.append(ir.node("Identity", [whole], name="spy"))
    result = apply(SplitPackedProjections(), model)
    assert not result.modified and not result.declines
