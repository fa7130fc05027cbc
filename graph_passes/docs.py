"""Prints docs/operators.md: `python -m onnxruntime_ep_ryzen_npu_gemma.graph_passes.docs > docs/operators.md`."""

from __future__ import annotations

__all__ = ["operators_markdown"]

from collections.abc import Iterable

from .opset import DOMAIN, FORMAT_KEY, FORMAT_VERSION, OPERATORS, VERSION, Attribute, Operator, Tensor

_HEAD = f"""\
# Operators of `{DOMAIN}`, version {VERSION}

<!-- Written by `python -m onnxruntime_ep_ryzen_npu_gemma.graph_passes.docs`; edit graph_passes/opset.py instead. -->

Every operator is a function inside the model, with a body in standard ONNX (opset 23): a fused model opens in Netron
and runs on any onnxruntime, slowly and with the same numbers. The execution provider takes the nodes before they are
inlined. A fused model has `{FORMAT_KEY}` = `{FORMAT_VERSION}` in its metadata.

Letters in shapes: S tokens of this call, P rows of the past buffer, C rows of the present buffer, M any leading axes,
Hq query heads, Hkv key/value heads, Dh head size, K input columns, N output rows, n_blocks = ⌈N/32⌉·⌈K/256⌉. T is
float16 or float32.
"""


def operators_markdown() -> str:
    """The text of docs/operators.md."""
    return "\n".join([_HEAD, *(_section(op) for op in OPERATORS.values())])


def _section(op: Operator) -> str:
    head = [f"## {op.name}", "", f"Since version {op.since_version}. {op.doc}", ""]
    twin = next(other for other in OPERATORS.values() if other.inputs == op.inputs)
    if twin is not op:
        return "\n".join([*head, f"Inputs, outputs and attributes: see [{twin.name}](#{twin.name.lower()}).", ""])
    tensors = [*_rows("input", op.inputs), *_rows("output", op.outputs)]
    return "\n".join(
        [
            *head,
            *_table(("", "name", "type", "shape", ""), tensors),
            "",
            *_table(("attribute", "type", "default", ""), map(_attribute, op.attributes)),
            "",
        ]
    )


def _rows(kind: str, tensors: Iterable[Tensor]) -> Iterable[tuple[str, ...]]:
    return ((kind, f"`{x.name}`", x.type, x.shape, x.doc) for x in tensors)


def _attribute(x: Attribute) -> tuple[str, ...]:
    return f"`{x.name}`", x.type.name.lower(), "required" if x.default is None else str(x.default), x.doc


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


if __name__ == "__main__":
    print(operators_markdown(), end="")
