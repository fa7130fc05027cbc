"""Rewrites an exported Gemma3 ONNX graph into the operators that the execution provider runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import FusionError, Report, fuse

__all__ = ["FusionError", "Report", "fuse"]


def __getattr__(name: str) -> object:
    """Imports the passes when one is asked for: onnx_ir and onnxscript are not for those who only run a model."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import pipeline

    return getattr(pipeline, name)
