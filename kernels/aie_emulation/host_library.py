"""Calls the host-compiled tile kernels: numpy arrays for pointers, ints for int32 scalars, and the core's counters."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

NAME = "libryzen_npu_gemma_aie2p_host.so"
VARIABLE = "RYZEN_NPU_GEMMA_AIE2P_HOST"


_COUNTERS = ("load", "store", "move", "multiply", "scalar", "misaligned")  # aie_emulation::Counters of core.h


class _Counters(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in _COUNTERS]


@dataclass(frozen=True)
class Counters:
    """Issue slots that were used (core.h says which instruction takes which), and accesses that were not aligned."""

    load: int
    store: int
    move: int
    multiply: int
    scalar: int
    misaligned: int

    @property
    def cycles(self) -> int:
        """The busiest slot: no schedule of these instructions is shorter. Two loads issue in one cycle."""
        return max((self.load + 1) // 2, self.store, self.move, self.multiply, self.scalar)


def find_library() -> Path:
    """The library: where the environment says, else the newest one of the build trees beside this source tree."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    root = Path(__file__).resolve().parents[2]
    built = sorted(root.glob(f"build/*/kernels/{NAME}"), key=lambda path: path.stat().st_mtime)
    if not built:
        raise FileNotFoundError(
            f"no {NAME} under {root / 'build'}: build it with `cmake --preset dev && cmake --build --preset dev`, "
            f"or set {VARIABLE} to its path"
        )
    return built[-1]


class HostLibrary:
    """The kernels of one shared library. Counters and the rounding mode belong to the calling thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))

    def __contains__(self, symbol: str) -> bool:
        return hasattr(self._library, symbol)

    def call(self, symbol: str, *args: Any) -> None:
        """Runs a kernel. A pointer argument is a C-contiguous array, which the kernel may write; a scalar an int."""
        values: list[Any] = []
        for index, arg in enumerate(args):
            if isinstance(arg, np.ndarray):
                if not arg.flags.c_contiguous:
                    raise ValueError(f"{symbol}: argument {index} is not contiguous")
                values.append(ctypes.c_void_p(arg.ctypes.data))
            else:
                values.append(ctypes.c_int32(arg))
        function = getattr(self._library, symbol)
        function.restype = None
        function(*values)

    def reset_core(self) -> None:
        """Power-up state: floor rounding, no saturation, counters at zero."""
        self._library.aie_emulation_reset_core()

    def reset_counters(self) -> None:
        """Counters at zero; the rounding mode stays."""
        self._library.aie_emulation_reset_counters()

    def counters(self) -> Counters:
        """What was counted since the last reset."""
        raw = _Counters()
        self._library.aie_emulation_counters(ctypes.byref(raw))
        return Counters(**{name: getattr(raw, name) for name in _COUNTERS})

    def rounding(self) -> int:
        """The rounding mode that the last kernel left: a value of aie::rounding_mode."""
        return int(self._library.aie_emulation_rounding())


@cache
def load() -> HostLibrary:
    """The library of this process."""
    return HostLibrary(find_library())


def aligned(shape: int | tuple[int, ...], dtype: Any, alignment: int = 64) -> np.ndarray[Any, Any]:
    """Zeros at an address that vector loads and stores accept, as the buffers of a core's L1 have."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(count + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    array: np.ndarray[Any, Any] = raw[start : start + count].view(dtype).reshape(shape)
    return array


def aligned_copy(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy at an aligned address."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def bfloat16_bits(values: Any) -> np.ndarray[Any, Any]:
    """Values rounded to bf16, nearest even, as uint16 (numpy has no such type)."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, (bits >> 16 | 0x40).astype(np.uint16), rounded)


def bfloat16_values(bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The float32 values of bf16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def bfloat16_round(values: Any) -> np.ndarray[Any, Any]:
    """Values rounded to bf16, as float32."""
    return bfloat16_values(bfloat16_bits(values))


__all__ = [
    "Counters",
    "HostLibrary",
    "aligned",
    "aligned_copy",
    "bfloat16_bits",
    "bfloat16_round",
    "bfloat16_values",
    "find_library",
    "load",
]
