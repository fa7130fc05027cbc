"""The exporters, run again: their graphs have the operators that the stored ones have.  Slow, but for our own."""

from __future__ import annotations

import collections

import onnx
import pytest

from tests.exporters import fixtures, make_fixtures
from tests.exporters.environments import VERSIONS
from tests.exporters.variants import VARIANTS

NEEDS_ENVIRONMENT = {name: bool(VERSIONS[variant.exporter]) for name, variant in VARIANTS.items()}


def operators(model: onnx.ModelProto) -> collections.Counter[tuple[str, str]]:
    return collections.Counter((node.domain, node.op_type) for node in model.graph.node)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * needs) for name, needs in NEEDS_ENVIRONMENT.items()]
)
def test_exporter_still_makes_the_stored_graph(name: str) -> None:
    exported, stored = make_fixtures.exported(name), fixtures.load(name)
    assert operators(exported) == operators(stored)
    assert [value.name for value in exported.graph.input] == [value.name for value in stored.graph.input]
    assert [value.name for value in exported.graph.output] == [value.name for value in stored.graph.output]
