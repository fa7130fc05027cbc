"""Computes position_ids from the lengths of a call and takes them off the model's interface."""

from __future__ import annotations

__all__ = ["DropPositionIds"]

import onnx_ir as ir


class DropPositionIds(ir.passes.InPlacePass):
    """position_ids -> past_len + (0, 1, ..., S - 1).

    1. position_ids, input_ids [1, S] and attention_mask [1, past + S] are inputs of the model: by contract token i of a
       call is at position past + i. A graph that numbers its tokens otherwise is not one of ours.
    2. The input is removed, whether anything read it or not.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        graph = model.graph
        inputs = {value.name: value for value in graph.inputs}
        positions = inputs.get("position_ids")
        if positions is None or not {"input_ids", "attention_mask"} <= inputs.keys():
            return ir.passes.PassResult(model, False)
        tape = ir.tape.Tape()
        zero, one, axis = (
            tape.initializer(ir.tensor(array, ir.DataType.INT64, name=f"positions.{name}"))
            for name, array in (("zero", 0), ("one", 1), ("axis", [0]))
        )
        total = tape.op("Shape", [inputs["attention_mask"]], {"start": 1, "end": 2}, name="positions.total_len")
        new = tape.op("Shape", [inputs["input_ids"]], {"start": 1, "end": 2}, name="positions.new_len")
        past = tape.op("Sub", [total, new], name="positions.past_len")
        count = tape.op("Squeeze", [new, axis], name="positions.count")
        step = tape.op("Range", [zero, count, one], name="positions.range")
        row = tape.op("Add", [past, step], name="positions.row")
        output = ir.val("positions", ir.DataType.INT64, positions.shape)
        computed = tape.op("Unsqueeze", [row, axis], name="positions", output=output)
        for value in tape.initializers:
            graph.register_initializer(value)
        graph.insert_before(graph[0], tape.nodes)
        positions.replace_all_uses_with(computed)
        graph.inputs.remove(positions)
        return ir.passes.PassResult(model, True)
