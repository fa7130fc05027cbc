"""Loops of core programs."""

from ..helpers.dialects.scf import _for as range_

__all__ = ["range_"]
