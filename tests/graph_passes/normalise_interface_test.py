"""The interface of other exporters takes our names and shapes; a batch of more than one declines."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_interface import NormaliseInterface
from tests.graph_passes.contrib import changes_nothing, exported

LAYERS = 8


def interface(model: ir.Model) -> dict[str | None, str]:
    return {value.name: str(value.shape) for value in (*model.graph.inputs, *model.graph.outputs)}


@pytest.mark.parametrize("name", ["genai_int4", "optimum", "torch_dynamo_23", "mobius", "own_all"])
def test_batch_is_one_and_lengths_have_our_names(name: str) -> None:
    model = exported(name)
    assert NormaliseInterface()(model).modified == (name != "own_all")
    found = interface(model)
    head_dim = "kv_cache_dim" if name.startswith("genai") else "64"
    assert found["input_ids"] == "[1,sequence]" and found["attention_mask"] == "[1,total]"
    assert found["logits"] == "[1,sequence,512]"
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            assert found[f"past_key_values.{layer}.{kind}"] == f"[1,2,past_{layer},{head_dim}]"
            assert found[f"present.{layer}.{kind}"] == f"[1,2,present_{layer},{head_dim}]"
    assert changes_nothing(NormaliseInterface(), model)


def test_inner_values_have_batch_one_too() -> None:
    model = exported("genai_int4")
    NormaliseInterface()(model)
    symbols = {str(dim) for node in model.graph for value in node.outputs for dim in value.shape or ()}
    assert "sequence" in symbols and "batch_size" not in symbols


@pytest.mark.parametrize(
    "names",
    [
        ("past_{layer}_{kind}", "present_{layer}_{kind}"),
        ("past_key_values_{kind}_cache_{layer}", "present_key_values_{kind}_cache_{layer}"),
        ("cache.{layer}.{kind}", "new_cache.{layer}.{kind}"),
    ],
    ids=str,
)
def test_caches_by_other_names(names: tuple[str, str]) -> None:
    model = exported("own")
    for values, pattern in zip((model.graph.inputs, model.graph.outputs), names, strict=True):
        for value in values:
            if value.name is not None and value.name.count(".") == 2:
                _, layer, kind = value.name.split(".")
                value.name = pattern.format(layer=layer, kind=kind)
    assert NormaliseInterface()(model).modified
    assert interface(model) == interface(exported("own"))


def static_batch(model: ir.Model) -> None:
    model.graph.inputs[0].shape = ir.Shape([2, "sequence"])


def no_mask(model: ir.Model) -> None:
    model.graph.inputs[1].name = "mask"


@pytest.mark.parametrize(
    ("change", "reason", "value"),
    [
        (static_batch, "batch is not 1", "input_ids [2,sequence]"),
        (no_mask, "the model has no input attention_mask of two axes", "mask"),
    ],
)
def test_near_misses_decline(change, reason: str, value: str) -> None:
    model = exported("genai_int4")
    change(model)
    before = interface(model)
    result = NormaliseInterface()(model)
    assert not result.modified and interface(model) == before
    [decline] = result.declines
    assert decline.reason == reason and value in decline.value
