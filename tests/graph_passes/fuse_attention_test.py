"""Attention fuses with what its graph says, and near misses stay as they are, with reason and value."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fuse_attention import FuseAttention
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import FusionResult
from tests.graph_passes.models import exported, nodes
from tests.tiny_gemma3 import LAYERS, WINDOW

SLIDING, FULL = 0, 5  # a layer of each kind


@pytest.fixture
def model(tiny_gguf: Path) -> ir.Model:
    return exported(tiny_gguf)


def attention(model: ir.Model, layer: int = SLIDING) -> ir.Node:
    return nodes(model, "Attention")[layer]


def set_constant(model: ir.Model, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    value = model.graph.initializers[name]
    assert value.const_value is not None
    value.const_value = ir.Tensor(np.asarray(change(value.const_value.numpy())), name=name)


def input_named(model: ir.Model, name: str) -> ir.Value:
    return next(value for value in model.graph.inputs if value.name == name)


def fuse(model: ir.Model, **options: ir.DataType) -> FusionResult:
    result = FuseAttention(**options)(model)
    assert isinstance(result, FusionResult)
    return result


def test_every_layer_becomes_flow_qkv_with_its_window_and_rope(model: ir.Model) -> None:
    result = fuse(model)
    assert result.modified and not result.declines and len(result.matches) == LAYERS
    flows = nodes(model, "FlowQKV")
    assert len(flows) == LAYERS
    for layer, flow in enumerate(flows):
        found = {name: attr.value for name, attr in flow.attributes.items()}
        full = layer == FULL
        assert found == {
            "num_heads": 4,
            "kv_num_heads": 2,
            "scale": pytest.approx(32**-0.5),
            "window": 0 if full else WINDOW,
            "rope_theta": 1e6 if full else 1e4,
            "rope_factor": 8.0 if full else 1.0,
            "eps": pytest.approx(1e-6),
            "mask": "causal",
        }
        names = [value.name for value in flow.inputs]
        assert names[3:7] == [
            f"past_key_values.{layer}.key",
            f"past_key_values.{layer}.value",
            f"model.layers.{layer}.self_attn.q_norm.weight",
            f"model.layers.{layer}.self_attn.k_norm.weight",
        ]
        assert [value.name for value in flow.outputs[1:]] == [f"present.{layer}.key", f"present.{layer}.value"]


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.FLOAT])
def test_the_caches_of_the_interface_have_the_wanted_type(model: ir.Model, dtype: ir.DataType) -> None:
    fuse(model, kv_dtype=dtype)
    caches = [value for value in (*model.graph.inputs, *model.graph.outputs) if ".key" in str(value.name)]
    assert len(caches) == 2 * LAYERS
    assert {value.dtype for value in caches} == {dtype}


def test_the_cache_state_is_computed_once_from_the_first_full_layer(model: ir.Model) -> None:
    fuse(model)
    assert len({(flow.inputs[7], flow.inputs[8]) for flow in nodes(model, "FlowQKV")}) == 1
    [rows] = [node for node in model.graph if node.name == "cache.rows"]
    assert rows.inputs[0].name == f"past_key_values.{FULL}.key"


def test_a_graph_of_one_token_becomes_flow_kv(model: ir.Model) -> None:
    input_named(model, "input_ids").shape = ir.Shape([1, 1])
    assert not fuse(model).declines
    assert len(nodes(model, "FlowKV")) == LAYERS and not nodes(model, "FlowQKV")


def test_other_cache_types_are_refused() -> None:
    with pytest.raises(ValueError, match="kv_dtype is BFLOAT16; it must be one of FLOAT16, FLOAT"):
        FuseAttention(ir.DataType.BFLOAT16)


def softcap(model: ir.Model) -> None:
    attention(model).attributes.add(ir.AttrFloat32("softcap", 50.0))


def other_rope_of_k(model: ir.Model) -> None:
    """The base of the other kind of layer."""
    k, full = (attention(model, layer).inputs[1].producer() for layer in (SLIDING, FULL))
    for table in (1, 2):
        k.replace_input_with(table, full.inputs[table])


def interleaved(model: ir.Model) -> None:
    attention(model).inputs[1].producer().attributes.add(ir.AttrInt64("interleaved", 1))


def partial(model: ir.Model) -> None:
    attention(model).inputs[0].producer().attributes.add(ir.AttrInt64("rotary_embedding_dim", 16))


def no_qk_norm(model: ir.Model) -> None:
    swap = attention(model).inputs[0].producer().inputs[0].producer()
    swap.replace_input_with(0, swap.inputs[0].producer().inputs[0])


def no_rope(model: ir.Model) -> None:
    node = attention(model)
    node.replace_input_with(1, node.inputs[1].producer().inputs[0])


def other_eps(model: ir.Model) -> None:
    norm = next(node for node in model.graph if node.name == "model.layers.0.self_attn.k_norm")
    norm.attributes.add(ir.AttrFloat32("epsilon", 1e-5))


def no_mask(model: ir.Model) -> None:
    attention(model).replace_input_with(3, None)


def bidirectional(model: ir.Model) -> None:
    mask = attention(model).inputs[3].producer()
    mask.replace_input_with(0, mask.inputs[1])


def window_of_keys(model: ir.Model) -> None:
    """A window counted from the last key and not from the query."""
    set_constant(model, "sliding_window", lambda window: window + np.arange(3, dtype=np.int64)[:, None])
    input_named(model, "input_ids").shape = ir.Shape([1, 3])


def past_is_computed(model: ir.Model) -> None:
    node = attention(model)
    copy = ir.node("Identity", [node.inputs[4]], name="copy")
    model.graph.insert_before(node, copy)
    node.replace_input_with(4, copy.outputs[0])


def present_is_not_returned(model: ir.Model) -> None:
    model.graph.outputs.remove(attention(model).outputs[2])


def y_is_read_twice(model: ir.Model) -> None:
    model.graph.insert_after(attention(model), ir.node("Identity", [attention(model).outputs[0]], name="spy"))


def heads_do_not_group(model: ir.Model) -> None:
    split = next(node for node in model.graph if node.name == "model.layers.0.self_attn.k_proj.heads")
    model.graph.register_initializer(ir.val("odd", const_value=ir.Tensor(np.array([0, 0, 3, 32]), name="odd")))
    split.replace_input_with(1, model.graph.initializers["odd"])


NEAR_MISSES = {
    softcap: (1, "softcap is not 0", "50.0"),
    other_rope_of_k: (1, "q and k are rotated by different tables", "rotary_emb_local.cos, rotary_emb.cos"),
    interleaved: (1, "RoPE of k is interleaved", "model.layers.0.self_attn.k_rotary"),
    partial: (1, "RoPE of q is partial", "16"),
    no_qk_norm: (1, "q has no QK-norm", "from Reshape"),
    no_rope: (1, "k has no RoPE", "from Transpose"),
    other_eps: (1, "q and k are normed with different epsilons", "1e-06, 1e-05"),
    no_mask: (1, "unknown mask: there is none", ""),
    bidirectional: (LAYERS - 1, "unknown mask: neither causal nor a causal window", "sees"),
    window_of_keys: (LAYERS - 1, "unknown mask: neither causal nor a causal window", "sees"),
    past_is_computed: (1, "past is not a graph input", ""),
    present_is_not_returned: (1, "present is not a graph output alone", "present.0.value"),
    y_is_read_twice: (1, "heads of y are not merged", "Transpose, Identity"),
    heads_do_not_group: (1, "heads of q, k, v do not group", "4 x 32, 3 x 32, 2 x 32"),
}


@pytest.mark.parametrize("change", NEAR_MISSES, ids=lambda change: change.__name__)
def test_near_misses_decline(model: ir.Model, change: Callable[[ir.Model], None]) -> None:
    change(model)
    count, reason, value = NEAR_MISSES[change]
    result = fuse(model)
    assert len(result.declines) == count
    assert len(nodes(model, "FlowQKV")) == LAYERS - count == len(result.matches)
    decline = result.declines[0]
    assert (decline.pass_name, decline.op_type, decline.node) == (
        "FuseAttention",
        "Attention",
        "model.layers.0.self_attn",
    )
    assert decline.reason == reason
    assert value in decline.value
    assert str(decline).startswith("FuseAttention: Attention 'model.layers.0.self_attn': " + reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f * np.float32(1) ** np.arange(16), None),
        (lambda f: f * np.linspace(1, 1.01, 16, dtype=np.float32), r"not 1 / \(factor \* theta\^\(2j/Dh\)\)"),
        (lambda f: -f, "not positive"),
        (lambda f: f + np.float32(1e-3), r"not 1 / \(factor \* theta\^\(2j/Dh\)\)"),
    ],
)
def test_rope_tables_of_another_kind_decline(model: ir.Model, change: Callable, reason: str | None) -> None:
    set_constant(model, "rotary_emb.inv_freq", lambda f: change(f).astype(np.float32))
    declines = fuse(model).declines
    assert [decline.node for decline in declines] == ([] if reason is None else [f"model.layers.{FULL}.self_attn"])
    assert reason is None or re.search(reason, declines[0].reason)


def test_rope_at_other_positions_declines(model: ir.Model) -> None:
    """Positions that start at 0 in every call, as in a graph whose cache was forgotten."""
    add = next(node for node in model.graph if node.name == "query_positions")
    cast = next(node for node in model.graph if node.name == "query_positions.float")
    cast.replace_input_with(0, add.inputs[0])
    declines = fuse(model).declines
    assert len(declines) == LAYERS
    assert {decline.reason for decline in declines} == {"RoPE frequencies are not positive"}


@pytest.mark.parametrize(("masked", "window"), [(True, WINDOW), (False, 0)])
def test_is_causal_hides_later_positions_with_a_mask_and_without(model: ir.Model, masked: bool, window: int) -> None:
    node = attention(model)
    node.attributes.add(ir.AttrInt64("is_causal", 1))
    if not masked:
        node.replace_input_with(3, None)
    assert not fuse(model).declines
    assert nodes(model, "FlowQKV")[SLIDING].attributes["window"].value == window


def test_is_causal_and_a_window_alone_are_a_causal_window(model: ir.Model) -> None:
    """The mask shows later positions; is_causal hides them."""
    node = attention(model)
    node.attributes.add(ir.AttrInt64("is_causal", 1))
    node.replace_input_with(3, next(x for x in node.inputs[3].producer().inputs if x.producer().op_type == "Greater"))
    assert not fuse(model).declines
    assert nodes(model, "FlowQKV")[SLIDING].attributes["window"].value == WINDOW


def test_the_norm_may_come_after_the_transpose(model: ir.Model) -> None:
    """As torch writes it: over the last axis it is the same."""
    for index in (0, 1):
        rotary = attention(model).inputs[index].producer()
        swap = rotary.inputs[0].producer()
        norm = swap.inputs[0].producer()
        swap.replace_input_with(0, norm.inputs[0])
        rotary.replace_input_with(0, norm.outputs[0])
        norm.replace_input_with(0, swap.outputs[0])
    model.graph.sort()
    before = nodes(model, "Attention")[0].name
    result = fuse(model)
    assert not result.declines and result.matches[0] == before


@pytest.mark.parametrize("shape", [[2, "sequence"], ["batch", "sequence"], ["sequence"]], ids=str)
def test_batches_decline(model: ir.Model, shape: list[int | str]) -> None:
    input_named(model, "input_ids").shape = ir.Shape(shape)
    result = fuse(model)
    assert not result.modified and len(result.declines) == LAYERS
    assert {decline.reason for decline in result.declines} == {"batch is not 1"}
    assert str(shape[0]) in result.declines[0].value


def test_a_model_without_the_usual_inputs_declines(model: ir.Model) -> None:
    input_named(model, "attention_mask").name = "mask"
    assert {decline.reason for decline in fuse(model).declines} == {"the model has no input attention_mask"}


def test_a_mask_that_looks_at_weights_declines(model: ir.Model) -> None:
    """A mask that depends on more than lengths is not run, however large what it depends on."""
    node = attention(model, FULL)
    mask = ir.node("Greater", [node.inputs[0], node.inputs[0]], name="odd_mask", num_outputs=1)
    model.graph.insert_before(node, mask)
    node.replace_input_with(3, mask.outputs[0])
    [decline] = fuse(model).declines
    assert decline.reason == "depends on more than the lengths of the call"


def test_a_mask_of_the_tokens_declines(model: ir.Model) -> None:
    """One that hides padding by its token: what it hides is no matter of lengths."""
    node = attention(model, FULL)
    ids = input_named(model, "input_ids")
    mask = ir.node("Equal", [ids, ids], name="padding")
    model.graph.insert_before(node, mask)
    node.replace_input_with(3, mask.outputs[0])
    [decline] = fuse(model).declines
    assert (decline.reason, decline.value) == ("depends on the tokens, not on their number alone", "padding")
