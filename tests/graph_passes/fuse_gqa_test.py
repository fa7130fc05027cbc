"""GroupQueryAttention fuses with what its graph says, and near misses stay as they are, with reason and value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.drop_position_ids import DropPositionIds
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fuse_gqa import FuseGqa
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import Decline
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_interface import NormaliseInterface
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_precision import NormalisePrecision
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_rms_norm import NormaliseRmsNorm
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.positions import cached_rope
from tests.graph_passes.contrib import apply, exported, weight
from tests.graph_passes.models import nodes

LAYERS, FULL, WINDOW = 8, 5, 16
NAME = "/model/layers.0/attn/GroupQueryAttention"


def normalised(name: str) -> ir.Model:
    """An exported graph as the pipeline hands it to the pass."""
    model = exported(name)
    for one in (NormaliseInterface(), NormalisePrecision(), DropPositionIds(), NormaliseRmsNorm()):
        one(model)
    return model


@pytest.fixture
def model() -> ir.Model:
    return normalised("genai_fp32")


def attention(model: ir.Model, layer: int = 0) -> ir.Node:
    return nodes(model, "GroupQueryAttention")[layer]


@pytest.mark.parametrize(
    "name",
    ["genai_fp32", "genai_int4_growing", "genai_fp16_cuda", "genai_bf16_cuda", "genai_fp16_dml"],
)
def test_every_layer_has_its_own_window_and_rope(name: str) -> None:
    """QK-norm between Reshapes or inside, RoPE inside or before, tables in float32, float16 or bfloat16."""
    model = normalised(name)
    result = apply(FuseGqa(), model)
    assert len(result.matches) == LAYERS and not result.declines
    for layer, flow in enumerate(nodes(model, "FlowQKV")):
        found = {key: attr.value for key, attr in flow.attributes.items()}
        assert found == {
            "num_heads": 4,
            "kv_num_heads": 2,
            "scale": 0.125,
            "window": 0 if layer == FULL else WINDOW,
            "rope_theta": 1e6 if layer == FULL else 1e4,
            "rope_factor": 1.0,
            "eps": pytest.approx(1e-6),
            "mask": "causal",
        }
        names = [value.name for value in flow.inputs]
        norms = [f"model.layers.{layer}.attn.{which}_norm.layernorm.weight" for which in "qk"]
        assert names[3:7] == [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value", *norms]
        assert "norm" not in str(names[0]) and "norm" not in str(names[1])  # the projections themselves
        assert [value.name for value in flow.outputs[1:]] == [f"present.{layer}.key", f"present.{layer}.value"]
        for value in (*flow.inputs[3:5], *flow.outputs[1:]):
            assert value.dtype == ir.DataType.FLOAT16 and [value.shape[i] for i in (0, 1, 3)] == [1, 2, 64]
    assert not apply(FuseGqa(), model).modified


def test_a_wrong_graph_is_taken_as_it_is() -> None:
    """mobius --ep cpu has no window, and the local base in the global layers too."""
    model = normalised("mobius_cpu")
    for norm in [node for node in model.graph if node.op_type == "Add" and "norm" in str(node.name)]:
        folded = weight(f"{norm.name}.folded", np.ones(norm.inputs[0].shape[0], np.float32))
        model.graph.register_initializer(folded)
        norm.outputs[0].replace_all_uses_with(folded)
    assert len(apply(FuseGqa(), model).matches) == LAYERS
    flows = nodes(model, "FlowQKV")
    assert {(flow.attributes["window"].value, flow.attributes["rope_theta"].value) for flow in flows} == {(0, 1e4)}


def test_windows_on_other_layers_are_taken_as_they_are(model: ir.Model) -> None:
    attention(model, FULL).attributes.add(ir.AttrInt64("local_window_size", 7))
    attention(model, 0).attributes.add(ir.AttrInt64("local_window_size", -1))
    assert not apply(FuseGqa(), model).declines
    windows = [flow.attributes["window"].value for flow in nodes(model, "FlowQKV")]
    assert windows == [0, 16, 16, 16, 16, 7, 16, 16]


def test_one_token_a_call_gives_flow_kv(model: ir.Model) -> None:
    model.graph.inputs[0].shape = ir.Shape([1, 1])
    assert not apply(FuseGqa(), model).declines
    assert len(nodes(model, "FlowKV")) == LAYERS


def test_a_scale_that_is_left_out_is_the_heads(model: ir.Model) -> None:
    attention(model).attributes.pop("scale")
    apply(FuseGqa(), model)
    assert nodes(model, "FlowQKV")[0].attributes["scale"].value == pytest.approx(64**-0.5)


def set_attribute(attr: ir.Attr) -> Callable[[ir.Model], None]:
    return lambda model: attention(model).attributes.add(attr)


def extra_input(index: int, name: str) -> Callable[[ir.Model], None]:
    def change(model: ir.Model) -> None:
        extra = weight(name, np.zeros(4, np.float32))
        model.graph.register_initializer(extra)
        attention(model).resize_inputs(16)
        attention(model).replace_input_with(index, extra)

    return change


def no_qk_norm(model: ir.Model) -> None:
    merge = attention(model).inputs[0].producer()
    merge.replace_input_with(0, merge.inputs[0].producer().inputs[0])


def no_head_split(model: ir.Model) -> None:
    merge = attention(model).inputs[1].producer()
    attention(model).replace_input_with(1, merge.inputs[0].producer().inputs[0].producer().inputs[0])


def other_eps(model: ir.Model) -> None:
    norm = attention(model).inputs[1].producer().inputs[0].producer()
    norm.attributes.add(ir.AttrFloat32("epsilon", 1e-5))


def heads_of_another_size(model: ir.Model) -> None:
    split = attention(model).inputs[1].producer().inputs[0].producer().inputs[0].producer()
    odd = weight("odd", np.array([0, -1, 32]))
    model.graph.register_initializer(odd)
    split.replace_input_with(1, odd)


def packed(model: ir.Model) -> None:
    attention(model).replace_input_with(1, None)
    attention(model).replace_input_with(2, None)


def other_lengths(model: ir.Model) -> None:
    node = attention(model)
    node.replace_input_with(5, node.inputs[6])


def no_rope(model: ir.Model) -> None:
    attention(model).attributes.add(ir.AttrInt64("do_rotary", 0))


def no_tables(model: ir.Model) -> None:
    attention(model).replace_input_with(7, None)


def past_is_computed(model: ir.Model) -> None:
    node = attention(model)
    copy = ir.node("Identity", [node.inputs[3]], name="copy")
    model.graph.insert_before(node, copy)
    node.replace_input_with(3, copy.outputs[0])


def present_is_not_returned(model: ir.Model) -> None:
    model.graph.outputs.remove(attention(model).outputs[2])


NEAR_MISSES = [
    (set_attribute(ir.AttrFloat32("softcap", 50.0)), "softcap is not 0", "50.0"),
    (set_attribute(ir.AttrInt64("rotary_interleaved", 1)), "rotary_interleaved is not 0", "1"),
    (set_attribute(ir.AttrInt64("smooth_softmax", 1)), "smooth_softmax is not 0", "1"),
    (set_attribute(ir.AttrString("k_quant_type", "PER_TENSOR")), "k_quant_type is not NONE", "PER_TENSOR"),
    (set_attribute(ir.AttrInt64("shiny", 1)), "it has an unknown attribute", "shiny = 1"),
    (set_attribute(ir.AttrInt64("kv_num_heads", 3)), "heads of q, k, v do not group", "4, 3"),
    (extra_input(10, "attention_bias"), "it has attention_bias", "attention_bias"),
    (extra_input(11, "head_sink"), "it has head_sink", "head_sink"),
    (no_qk_norm, "q has no QK-norm", "from Reshape"),
    (no_head_split, "k has no QK-norm", "from Split"),
    (other_eps, "q and k are normed with different epsilons", "1e-06, 1e-05"),
    (heads_of_another_size, "heads of k are unknown", "[0, -1, 32]"),
    (packed, "q, k and v are packed", "q_norm"),
    (other_lengths, "lengths are not past + S", "[8], [8] with 5 past and 3 new tokens"),
    (no_rope, "q has no RoPE", "q_norm"),
    (no_tables, "RoPE has no tables", NAME),
    (past_is_computed, "past is not a graph input", ""),
    (present_is_not_returned, "present is not a graph output alone", "present.0.value"),
]


@pytest.mark.parametrize(("change", "reason", "value"), NEAR_MISSES, ids=[reason for _, reason, _ in NEAR_MISSES])
def test_near_misses_decline(model: ir.Model, change: Callable[[ir.Model], None], reason: str, value: str) -> None:
    change(model)
    result = apply(FuseGqa(), model)
    assert len(result.matches) == LAYERS - 1 == len(nodes(model, "FlowQKV"))
    [decline] = result.declines
    assert (decline.pass_name, decline.op_type, decline.node) == ("FuseGqa", "GroupQueryAttention", NAME)
    assert decline.reason == reason and value in decline.value


def external_rope(change: Callable[[ir.Node], None]) -> list[tuple[str, str]]:
    model = normalised("genai_fp16_dml")
    change(attention(model).inputs[0].producer())
    return [(decline.reason, decline.value) for decline in apply(FuseGqa(), model).declines]


def test_rotary_embedding_before_the_attention_that_does_not_fit_declines() -> None:
    assert external_rope(lambda node: node.attributes.add(ir.AttrInt64("interleaved", 1))) == [
        ("interleaved of q's RoPE is not 0", "1")
    ]
    assert external_rope(lambda node: node.replace_input_with(1, None))[0][0] == "RoPE of q has no position_ids"
    [(reason, value)] = external_rope(lambda node: node.replace_input_with(2, node.inputs[3]))
    assert reason == "q and k are rotated by different tables" and "cache" in value


def test_other_positions_decline() -> None:
    """Positions that start at 0 in every call."""
    model = normalised("genai_fp16_dml")
    [row] = [node for node in model.graph if node.name == "positions.row"]
    row.replace_input_with(0, model.graph.initializers["positions.zero"])
    reasons = {(decline.reason, decline.value) for decline in apply(FuseGqa(), model).declines}
    assert reasons == {("RoPE positions are not past + i", "positions: [0, 1, 2]")}


@pytest.mark.parametrize("shape", [[2, "sequence"], ["batch", "sequence"]], ids=str)
def test_batches_decline(model: ir.Model, shape: list[int | str]) -> None:
    model.graph.inputs[0].shape = ir.Shape(shape)
    result = apply(FuseGqa(), model)
    assert not result.modified and {decline.reason for decline in result.declines} == {"batch is not 1"}


# --- tables -----------------------------------------------------------------------------------------------------------


def tables(theta: float, factor: float, rows: int = 128, half: int = 32) -> np.ndarray:
    """cos and sin, float32 [2, rows, Dh/2], as exporters make them."""
    inv_freq = (1 / (factor * theta ** (np.arange(half) / half))).astype(np.float32)
    angle = np.arange(rows, dtype=np.float32)[:, None] * inv_freq
    return np.stack([np.cos(angle), np.sin(angle)])


def found(made: np.ndarray) -> tuple[float, float]:
    cos, sin = (weight(name, np.ascontiguousarray(table)) for name, table in zip(("cos", "sin"), made, strict=True))
    rope = cached_rope(cos, sin, 2 * made.shape[2])
    return rope.theta, rope.factor


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("theta", "factor"), [(1e4, 1.0), (1e6, 1.0), (1e6, 8.0), (5e5, 1.0), (2.5e5, 4.0)])
@pytest.mark.parametrize("half", [32, 128])
def test_base_and_factor_of_tables(theta: float, factor: float, dtype: str, half: int) -> None:
    """In half precision the simplest base and factor that the rounded table allows."""
    stored = tables(theta, factor, 2048, half).astype(np.dtype(dtype)).astype(np.float32)
    assert found(stored) == (theta, factor)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda made: made * np.float32(1.1), "RoPE tables are scaled or too short"),
        (lambda made: made[:, :1], "RoPE tables are scaled or too short"),
        (lambda made: made * np.array([1, -1], np.float32)[:, None, None], "RoPE frequencies are not positive"),
        (lambda made: np.stack([made[0], np.roll(made[1], 3, axis=1)]), "RoPE tables are scaled or too short"),
        (lambda made: np.roll(made, -1, axis=1), "RoPE frequencies are not 1 / (factor * theta^(2j/Dh))"),
        (lambda made: np.concatenate([made[:, :100], made[:, :28]], 1), "RoPE table is not that of its first rows"),
    ],
)
def test_other_tables_decline(change: Callable[[np.ndarray], np.ndarray], reason: str) -> None:
    with pytest.raises(Decline) as caught:
        found(change(tables(1e4, 1.0)))
    assert caught.value.reason == reason
