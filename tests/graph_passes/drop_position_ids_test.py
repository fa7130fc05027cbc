"""position_ids leave the interface; what read them reads past + i."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.drop_position_ids import DropPositionIds
from tests.graph_passes.contrib import changes_nothing, run
from tests.graph_passes.models import written

TEXT = """
<ir_version: 10, opset_import: ["": 23]>
part (int64[1, S] input_ids, int64[1, L] attention_mask, int64[1, S] position_ids) => (float[1, S] y, int64[1, S] z)
{
    y = Cast <to = 1> (position_ids)
    z = Add(position_ids, input_ids)
}
"""


@pytest.mark.parametrize(("past", "new"), [(0, 1), (0, 4), (7, 3)])
def test_positions_are_past_plus_i(past: int, new: int) -> None:
    model = written(TEXT)
    feeds = {"input_ids": np.zeros((1, new), np.int64), "attention_mask": np.ones((1, past + new), np.int64)}
    before = run(model, feeds | {"position_ids": np.arange(past, past + new)[None]})
    assert DropPositionIds()(model).modified
    assert [value.name for value in model.graph.inputs] == ["input_ids", "attention_mask"]
    for after, array in zip(run(model, feeds), before, strict=True):
        np.testing.assert_array_equal(after, array)
    assert changes_nothing(DropPositionIds(), model)


def test_positions_that_nothing_reads_leave_too() -> None:
    model = written(
        TEXT, {"Cast <to = 1> (position_ids)": "Cast <to = 1> (input_ids)", "Add(position_ids,": "Add(input_ids,"}
    )
    DropPositionIds()(model)
    assert len(model.graph.inputs) == 2


def test_without_the_lengths_they_stay() -> None:
    model = written(TEXT)
    model.graph.inputs[1].name = "mask"
    assert changes_nothing(DropPositionIds(), model)
    assert isinstance(model.graph.inputs[2], ir.Value) and model.graph.inputs[2].name == "position_ids"
