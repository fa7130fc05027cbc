"""Calls the operations of probe.cc, and numpy's own view of the core's number formats."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kernels.aie_emulation.host_library import HostLibrary, aligned, aligned_copy

Array = np.ndarray[Any, Any]

# aie::rounding_mode, as a rule for a non-negative number with a fractional part: is it rounded up (in magnitude)?
# Arguments: negative, whole part, fraction in [0, 1).
ROUNDING: dict[str, tuple[int, Callable[[Array, Array, Array], Array]]] = {
    "floor": (0, lambda neg, whole, f: neg & (f > 0)),
    "ceil": (1, lambda neg, whole, f: ~neg & (f > 0)),
    "symmetric_floor": (2, lambda neg, whole, f: np.zeros_like(neg)),
    "symmetric_ceil": (3, lambda neg, whole, f: f > 0),
    "negative_inf": (8, lambda neg, whole, f: (f > 0.5) | (neg & (f == 0.5))),
    "positive_inf": (9, lambda neg, whole, f: (f > 0.5) | (~neg & (f == 0.5))),
    "symmetric_zero": (10, lambda neg, whole, f: f > 0.5),
    "symmetric_inf": (11, lambda neg, whole, f: f >= 0.5),
    "conv_even": (12, lambda neg, whole, f: (f > 0.5) | ((f == 0.5) & (whole % 2 == 1))),
    "conv_odd": (13, lambda neg, whole, f: (f > 0.5) | ((f == 0.5) & (whole % 2 == 0))),
}
NONE, SATURATE, SYMMETRIC = 0, 1, 3


def round_integer(x: Any, mode: str) -> Array:
    """float64 values to integers (as float64) by a mode of the core."""
    x = np.asarray(x, np.float64)
    whole = np.floor(np.abs(x))
    return np.copysign(whole + ROUNDING[mode][1](x < 0, whole, np.abs(x) - whole), x)


def to_bf16(x: Any, mode: str = "conv_even") -> Array:
    """float32 values to bf16, as float32: seven bits of fraction; subnormal numbers are zero."""
    x = np.asarray(x, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        exponent = np.frexp(np.where(np.isfinite(x), x, 1).astype(np.float64))[1] - 8
        rounded = np.ldexp(round_integer(np.ldexp(x.astype(np.float64), -exponent), mode), exponent)
        rounded = np.where(np.abs(rounded) >= 2.0**128, np.copysign(np.inf, x), rounded)
        rounded = np.where(np.abs(x) < 2.0**-126, np.copysign(0, x), rounded)
        return np.where(np.isfinite(x), rounded, x).astype(np.float32)


def flush(x: Any) -> Array:
    """Subnormal numbers are zero."""
    x = np.asarray(x, np.float32)
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


@cache
def _probe() -> HostLibrary:
    if named := os.environ.get("AIE_EMULATION_PROBE"):
        return HostLibrary(Path(named))
    root = Path(__file__).resolve().parents[3]
    built = sorted(root.glob("build/*/tests/kernels/libaie_emulation_probe.so"), key=lambda path: path.stat().st_mtime)
    if not built:
        raise FileNotFoundError(
            "libaie_emulation_probe.so: build it with `cmake --preset dev && cmake --build --preset dev`"
        )
    return HostLibrary(built[-1])


class Core:
    """An emulated core that has just powered up, in the rounding and saturation mode asked for."""

    def __init__(self, rounding: str = "conv_even", saturation: int = SATURATE) -> None:
        self.library = _probe()
        self.library.reset_core()
        self.library.call("set_modes", ROUNDING[rounding][0], saturation)
        self.library.reset_counters()

    def __call__(self, name: str, *args: Any, out: tuple[int, Any]) -> Array:
        """Runs an operation: arrays and ints in; `out` is the number of elements and their type."""
        result = aligned(out[0], out[1])
        values = [aligned_copy(a) if isinstance(a, np.ndarray) else a for a in args]
        arrays = [v for v in values if isinstance(v, np.ndarray)]
        scalars = [v for v in values if not isinstance(v, np.ndarray)]
        self.library.call(name, *arrays, result, *scalars)
        return result
