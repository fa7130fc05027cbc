"""Rewrites an exported Gemma3 ONNX graph into the operators that the execution provider runs."""

from __future__ import annotations

__all__ = ["FusionError", "Report", "fuse"]

from .pipeline import FusionError, Report, fuse
