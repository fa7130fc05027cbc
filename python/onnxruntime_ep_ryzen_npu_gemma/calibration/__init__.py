"""Quantises a model on a text: numpy only, one layer in memory at a time."""

from __future__ import annotations

__all__ = ["CalibratedMatrix", "calibrate"]

from .calibrate import calibrate
from .fit import CalibratedMatrix
