"""Prints this folder's README.md: `python -m tests.exporters.readme > tests/exporters/README.md`."""

from __future__ import annotations

import onnx

from . import fixtures, tiny_model
from .environments import VERSIONS
from .variants import VARIANTS

_TEXT = """\
# Graphs that exporters make of Gemma3

<!-- Written by `python -m tests.exporters.readme`; edit readme.py, variants.py or environments.py instead. -->

Every exporter is given one tiny random Gemma3 ({layers} layers, hidden size {hidden}, window {window}; see
tiny_model.py). `fixtures.load(name)` gives a graph as its exporter made it, weights and all. The files hold no weights:
each is a recipe of seeded numbers, and no paths, stack traces or doc strings. They were stored when the filled graph
was the exporter's, byte for byte{exceptions}.

- `python -m tests.exporters.make_fixtures [NAME ...]` makes them again, each exporter in an environment of its
  own under `build/exporters/`.
- `make test-slow` exports everything anew and compares the operators with those stored.
- `exported_run.logits` runs any of them on onnxruntime; `fixtures.hf_weights(name)` is what transformers must be given
  to compute the same.

## Fixtures

| name | exporter | options | opset | nodes | kB | to know |
| --- | --- | --- | --- | --- | --- | --- |
{fixtures}

## Exporters

| script | versions |
| --- | --- |
{exporters}
"""


def text() -> str:
    """The README of the fixtures and variants that there are."""
    searched = [f"`{name}`" for name, variant in VARIANTS.items() if not variant.exact]
    config = tiny_model.CONFIG
    return _TEXT.format(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        window=config["sliding_window"],
        exceptions=f" (not {', '.join(searched)}, whose codes come from a search)" if searched else "",
        fixtures="\n".join(_row(name) for name in VARIANTS),
        exporters="\n".join(
            f"| `{name}.py` | {' '.join(versions) or 'this repository'} |" for name, versions in VERSIONS.items()
        ),
    )


def _row(name: str) -> str:
    variant = VARIANTS[name]
    model = fixtures.load(name)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    size = round(fixtures.path(name).stat().st_size / 1000)
    changes = [f"{key}={value}" for key, value in variant.config.items()]
    options = " ".join([*variant.options, *changes])
    cells = (
        f"`{name}`",
        variant.exporter,
        f"`{options}`" if options else "",
        opset,
        _nodes(model),
        size,
        variant.oddity,
    )
    return f"| {' | '.join(map(str, cells))} |"


def _nodes(model: onnx.ModelProto) -> str:
    constants = sum(node.op_type == "Constant" for node in model.graph.node)
    return f"{len(model.graph.node) - constants} and {constants} Constant"


if __name__ == "__main__":
    print(text(), end="")
