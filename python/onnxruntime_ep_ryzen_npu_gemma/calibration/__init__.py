"""Quantises a model on a text: numpy only, one layer in memory at a time."""

from __future__ import annotations

__all__ = ["calibrate"]

from .calibrate import calibrate
