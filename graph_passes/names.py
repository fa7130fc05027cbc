"""The names that a fused model is known by, for those who read one without onnx_ir."""

from __future__ import annotations

__all__ = ["DOMAIN", "FORMAT_KEY", "FORMAT_VERSION", "VERSION"]

DOMAIN = "ryzen.npu.gemma"
VERSION = 1

# Model metadata: the format of a fused model. A reader refuses a newer one.
FORMAT_KEY = "ryzen.npu.gemma.format"
FORMAT_VERSION = "1"
