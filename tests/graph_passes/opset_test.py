"""The table of operators against the function bodies and against docs/operators.md."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.docs import operators_markdown
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.functions import function_bodies
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.opset import DOMAIN, OPERATORS, VERSION

_DOCS = Path(__file__).parents[2] / "docs/operators.md"


@pytest.mark.parametrize("name", OPERATORS)
def test_the_body_has_the_tables_signature(name: str) -> None:
    op, body = OPERATORS[name], function_bodies()[name]
    assert body.domain == DOMAIN and body.opset_imports[""] == 23
    assert [value.name for value in body.inputs] == [tensor.name for tensor in op.inputs]
    assert len(body.outputs) == len(op.outputs)
    assert set(body.attributes) == {attribute.name for attribute in op.attributes}
    for attribute in op.attributes:
        found = body.attributes[attribute.name]
        if attribute.default is None:  # a function names its required attributes only
            assert found.value is None
        else:
            assert found.type == attribute.type
            assert found.value == pytest.approx(attribute.default)
    assert op.since_version <= VERSION


def test_every_body_is_an_operator_or_called_by_one() -> None:
    bodies = function_bodies()
    called = {
        node.op_type
        for body in bodies.values()
        for node in ir.traversal.RecursiveGraphIterator(body)
        if node.domain == DOMAIN
    }
    assert set(bodies) == set(OPERATORS) | called


@pytest.mark.parametrize("name", function_bodies())
def test_bodies_are_standard_onnx(name: str) -> None:
    body = function_bodies()[name]
    onnx.checker.check_function(ir.to_proto(body))
    assert {node.domain for node in ir.traversal.RecursiveGraphIterator(body)} <= {"", DOMAIN}


def test_the_docs_are_current() -> None:
    assert _DOCS.read_text(encoding="utf-8") == operators_markdown(), (
        "run python -m onnxruntime_ep_ryzen_npu_gemma.graph_passes.docs > docs/operators.md"
    )
