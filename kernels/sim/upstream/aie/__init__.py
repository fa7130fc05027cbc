"""The subset of mlir-aie's Python package `aie` (spring 2026) that our designs use, for machines without mlir-aie.

It records a design; `kernels/sim` lowers, checks and runs the record. Names, signatures and meaning are upstream's
(a test compares them), so a `design.py` runs under either. What upstream lacks is refused here too.
"""
