"""Reads what a graph's attention mask and rotation do: the window of a mask, the base and factor of a RoPE."""

from __future__ import annotations

__all__ = ["Rope", "cached_rope", "mask_window", "rope"]

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .fusion_pass import Decline, constant
from .probe import Probe
from .q4nx import from_bfloat16, to_bfloat16

_LONG = 1 << 17  # more past tokens than any Gemma3 window; a mask that hides none of them is global
_RELATIVE_ERROR = 1e-5  # of a frequency; float32 tables of transformers and of our exporter agree to 3e-7
_ANGLE_ERROR = 1e-3  # of a cosine near position 1000: float32 angles there are good to 6e-5
_FAR = 100  # a position that stored tables of the smallest models have

_CHECKED_ROWS = 1001  # of a table of constants

_Table = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding: frequency j of Dh/2 is 1 / (factor * theta^(2j/Dh))."""

    theta: float
    factor: float

    def inv_freq(self, head_dim: int) -> npt.NDArray[np.float32]:
        """The frequencies, float32 [Dh/2]."""
        exponent = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
        inv_freq: _Table = 1.0 / (self.factor * self.theta**exponent)
        return inv_freq.astype(np.float32)


def mask_window(graph: ir.Graph, mask: ir.Value | None, is_causal: bool, new: int) -> int:
    """The window of a causal mask, 0 if it hides no earlier position.

    Args:
        graph: the main graph.
        mask: bool, true where a key is seen, or float, added to the scores; [..., S, past + S]. None hides nothing.
        is_causal: later positions are hidden whatever the mask says.
        new: S of the probing calls, at least 1.

    Raises:
        Decline: the mask is anything but causal, with or without a window.
    """
    window = 0
    if mask is None:
        if not is_causal:
            raise Decline("unknown mask: there is none")
        return window
    for past in (_LONG, 0, 5):
        [array] = Probe(graph, past, new).evaluate(mask)
        query, key = past + np.arange(new)[:, None], np.arange(past + new)[None, :]
        seen = _seen(mask, array, new, past + new) & (key <= query if is_causal else True)
        if past == _LONG:
            in_sight = int(seen[-1].sum())
            window = 0 if in_sight == past + new else in_sight
        expected = (key <= query) & ((key > query - window) if window else True)
        if not np.array_equal(seen, expected):
            row = int(np.argwhere((seen != expected).any(axis=1))[0, 0])
            raise Decline(
                "unknown mask: neither causal nor a causal window",
                f"{mask.name}: query {past + row} of a call with {past} past tokens sees {int(seen[row].sum())} keys",
            )
    return window


def rope(graph: ir.Graph, cos: ir.Value, sin: ir.Value, head_dim: int, new: int) -> Rope:
    """The base and the factor of a rotation, found from its tables and verified on them.

    Args:
        graph: the main graph.
        cos: [1, S, Dh/2] table of positions past + i.
        sin: the same.
        head_dim: Dh, at least 4.
        new: S of the probing calls, at least 1.

    Raises:
        Decline: the tables are not those of any base and factor at positions past + i.
    """
    angle = _angles(Probe(graph, 1, new), cos, sin, head_dim)[0]  # of position 1: the frequencies themselves
    found = _fit(angle, cos, _RELATIVE_ERROR)
    inv_freq = found.inv_freq(head_dim)
    for past in (0, _FAR):
        cosine, sine = _tables(Probe(graph, past, new), cos, sin, head_dim)
        angle = (past + np.arange(new, dtype=np.float32))[:, None] * inv_freq
        error = max(np.abs(cosine - np.cos(angle)).max(), np.abs(sine - np.sin(angle)).max())
        if error > _ANGLE_ERROR:
            raise Decline("RoPE positions are not past + i", f"{cos.name}: {error:.2g} off with {past} past tokens")
    return found


def cached_rope(cos: ir.Value, sin: ir.Value, head_dim: int) -> Rope:
    """The base and the factor of constant tables [rows, Dh/2], row p of which is for position p.

    Raises:
        Decline: the tables are computed, or not those of any base and factor.
    """
    cos_RD, sin_RD = constant(cos), constant(sin)
    if cos_RD is None or sin_RD is None:
        raise Decline("RoPE tables are computed", cos.name)
    if cos_RD.shape != sin_RD.shape or cos_RD.ndim != 2 or cos_RD.shape[1] != head_dim // 2:
        raise Decline("RoPE tables are not [rows, Dh/2]", f"{cos.name}: {list(cos_RD.shape)}")
    cosine, sine = (table[:_CHECKED_ROWS].astype(np.float64) for table in (cos_RD, sin_RD))
    rounding = _rounding(cosine)
    tolerance = max(_RELATIVE_ERROR, 2 * rounding)
    if len(cosine) < 2 or not np.abs(np.hypot(cosine, sine) - 1).max() < max(_RELATIVE_ERROR, rounding):
        raise Decline("RoPE tables are scaled or too short", f"{cos.name}: {len(cosine)} rows")
    # Each frequency from the last power of two of positions whose angle is below 1: there it is known best.
    angle = np.arctan2(sine, cosine)
    row = np.full(head_dim // 2, 1)
    while 2 * row.max() < len(cosine):
        farther = np.where((angle[row, range(len(row))] < 0.5) & (2 * row < len(cosine)), 2 * row, row)
        if np.array_equal(farther, row):
            break
        row = farther
    found = _fit(angle[row, range(len(row))] / row, cos, tolerance)
    exact = np.arange(len(cosine), dtype=np.float32)[:, None] * found.inv_freq(head_dim)
    error = max(np.abs(cosine - np.cos(exact)).max(), np.abs(sine - np.sin(exact)).max())
    if error > max(_ANGLE_ERROR, rounding):
        raise Decline("RoPE table is not that of its first rows", f"{cos.name}: {error:.2g} off")
    return found


def _rounding(cosine: _Table) -> float:
    """The largest error of a cosine in the type that the table was stored in."""
    if np.array_equal(from_bfloat16(to_bfloat16(cosine)), cosine):
        return 2.0**-8
    return 2.0**-11 if np.array_equal(cosine.astype(np.float16), cosine) else 0.0


def _seen(mask: ir.Value, array: npt.NDArray[Any], new: int, total: int) -> npt.NDArray[np.bool_]:
    if array.shape[-2:] != (new, total) or array.size != new * total:
        raise Decline("unknown mask: not [S, past + S]", f"{mask.name}: {list(array.shape)}")
    array = array.reshape(new, total)
    if array.dtype == np.bool_:
        return array
    seen: npt.NDArray[np.bool_] = np.equal(array, 0)
    if (array[~seen] > -1e4).any():
        raise Decline("unknown mask: neither 0 nor very negative", f"{mask.name}: {array[~seen].max():g}")
    return seen


def _tables(probe: Probe, cos: ir.Value, sin: ir.Value, head_dim: int) -> tuple[_Table, _Table]:
    tables = [table.astype(np.float64) for table in probe.evaluate(cos, sin)]
    if any(table.shape != (1, probe.new, head_dim // 2) for table in tables):
        raise Decline("RoPE tables are not [1, S, Dh/2]", f"{cos.name}: {list(tables[0].shape)}")
    return tables[0][0], tables[1][0]


def _angles(probe: Probe, cos: ir.Value, sin: ir.Value, head_dim: int) -> _Table:
    cosine, sine = _tables(probe, cos, sin, head_dim)
    radius = np.hypot(cosine, sine)
    if not np.abs(radius - 1).max() < _RELATIVE_ERROR:
        raise Decline("RoPE tables are scaled", f"{cos.name}: by {radius.flat[0]:g}")
    angle: _Table = np.arctan2(sine, cosine)
    return angle


def _fit(inv_freq: _Table, cos: ir.Value, tolerance: float) -> Rope:
    """The base and the factor of frequencies that are known to a relative `tolerance`."""
    if (inv_freq <= 0).any():
        raise Decline("RoPE frequencies are not positive", f"{cos.name}: {inv_freq.min():g}")
    count = len(inv_freq)
    theta = (inv_freq[0] / inv_freq[-1]) ** (count / (count - 1))
    found = Rope(_simplest(theta, 2 * tolerance), _simplest(1 / inv_freq[0], tolerance))
    error = np.abs(inv_freq / found.inv_freq(2 * count) - 1).max()
    if error > tolerance:
        raise Decline(
            "RoPE frequencies are not 1 / (factor * theta^(2j/Dh))",
            f"{cos.name}: {error:.2g} away from theta {found.theta:g}, factor {found.factor:g}",
        )
    return found


def _simplest(x: float, tolerance: float) -> float:
    """The number of the fewest digits that `x`, known to a relative `tolerance`, may stand for."""
    rounded = (float(f"{x:.{digits}e}") for digits in range(8))
    return next((number for number in rounded if abs(number / x - 1) < tolerance), x)
