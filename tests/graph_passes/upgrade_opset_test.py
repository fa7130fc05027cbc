"""Older graphs are raised to opset 23 and compute the same; newer ones stay."""

from __future__ import annotations

import numpy as np
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import FusionError, fuse
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.upgrade_opset import OPSET, UpgradeOpset
from tests.graph_passes.contrib import changes_nothing, run
from tests.graph_passes.models import written

TEXT = """
<ir_version: 8, opset_import: ["": 18]>
part (float[2, 6] x) => (float[2] y)
<int64[1] axes = {-1}, int64[2] shape = {2, -1}>
{
    same = Reshape(x, shape)
    real = Cast <to = 1> (same)
    mean = ReduceMean <keepdims = 0> (real, axes)
    y = Identity(mean)
}
"""


@pytest.mark.parametrize("opset", [18, 19, 20, 21, 22])
def test_it_computes_the_same(opset: int) -> None:
    model = written(TEXT, {'["": 18]': f'["": {opset}]'})
    x = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    [before] = run(model, {"x": x})
    assert UpgradeOpset()(model).modified
    assert model.graph.opset_imports[""] == OPSET and model.ir_version == 10
    np.testing.assert_array_equal(run(model, {"x": x})[0], before)
    assert changes_nothing(UpgradeOpset(), model)


def test_an_opset_before_18_goes_through_onnxs_converter() -> None:
    old = {
        '["": 18]': '["": 13]',
        "ReduceMean <keepdims = 0> (real, axes)": "ReduceMean <keepdims = 0, axes = [-1]> (real)",
    }
    model = written(TEXT, old | {"int64[1] axes = {-1}, ": ""})
    x = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    [before] = run(model, {"x": x})
    assert UpgradeOpset()(model).modified and model.graph.opset_imports[""] == OPSET
    np.testing.assert_array_equal(run(model, {"x": x})[0], before)


def test_what_cannot_be_raised_is_refused() -> None:
    """An operator that no standard opset has."""
    model = written(TEXT, {'["": 18]': '["": 13]', "Identity(mean)": "SimplifiedLayerNormalization(mean, mean)"})
    with pytest.raises(FusionError, match="UpgradeOpset: the graph has opset 13 and cannot be raised to 23; export it"):
        fuse(model)


@pytest.mark.parametrize("opset", [23, 24])
def test_others_stay(opset: int) -> None:
    assert changes_nothing(UpgradeOpset(), written(TEXT, {'["": 18]': f'["": {opset}]'}))
