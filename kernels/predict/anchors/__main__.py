"""Prints the table of docs/npu.md: `python -m kernels.predict.anchors`."""

from .table import compare, markdown

print(markdown(compare()))
