"""Ways to choose the Q4NX codes of a matrix; `QuantizeMatMul` takes any."""

from __future__ import annotations

__all__ = ["quantize_by_search"]

from .grid_search import quantize_by_search
