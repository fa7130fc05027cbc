"""GeGLU on the emulated core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels import bf16
from kernels.aie_emulation.host_library import bfloat16_values
from kernels.gelu_mul.contract import GELU_MUL_BF16, GELU_MUL_F32, gelu_tanh

from .running import judge, run

Array = np.ndarray[Any, Any]


def _pair(n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(n)
    return 3 * rng.standard_normal(n), rng.standard_normal(n)


# A vector; what a core has of 270M, 1B and 4B: whole rows and a 32nd of 6912, of 10240.
@pytest.mark.parametrize("n", [64, 256, 320, 2048, 6912])
def test_bf16(n: int) -> None:
    gate, up = _pair(n)
    arrays = {"gate": bf16.rounded(gate), "up": bf16.rounded(up), "y": np.zeros(n)}
    judge(GELU_MUL_BF16, {"n": n}, **arrays, n=n)


@pytest.mark.parametrize("n, y_offset", [(64, 0), (256, 128), (320, 0), (2048, 2048)])
def test_f32(n: int, y_offset: int) -> None:
    shape = {"n": n, "y_offset": y_offset, "width": 4096}
    gate_up = np.concatenate(_pair(n)).astype(np.float32)
    judge(GELU_MUL_F32, shape, gate_up=gate_up, y=bf16.rounded(np.arange(4096.0)), n=n, y_offset=y_offset)


def test_every_finite_gate() -> None:
    """All bf16 numbers: the error in parts of the result, where GELU is not vanishing, and in absolute terms."""
    gate = bfloat16_values(np.arange(65536, dtype=np.uint32).astype(np.uint16))
    gate[~np.isfinite(gate) | (np.abs(gate) < 1e-30)] = 0.0  # the core has no subnormal numbers
    n = gate.size
    y = run(GELU_MUL_BF16, gate=gate, up=np.ones(n), y=np.zeros(n), n=n).outputs["y"]
    truth = gelu_tanh(gate)
    relative = np.abs(y - truth) / np.maximum(np.abs(truth), 1e-30)
    above, tail = relative[(gate > -2) & (gate != 0)].max(), relative[(gate >= -4) & (gate <= -2)].max()
    print(f"largest relative error: {above:.4f} above -2, {tail:.4f} from -4 to -2")
    assert above <= 0.0059
    assert tail <= 0.014
    assert np.abs(y - truth)[gate < -4].max() <= 0.02 * abs(gelu_tanh(-4.0))


def test_the_cores_tanh_would_not_do() -> None:
    """Its published error, 0.038, is far outside of the tolerance."""
    gate, up = (bf16.rounded(x) for x in _pair(2048))
    assert GELU_MUL_BF16.ideal is not None
    ideal = GELU_MUL_BF16.ideal(gate=gate, up=up)["y"]
    truth = GELU_MUL_BF16.reference(gate=gate, up=up)["y"]
    with_tanh = truth + 0.5 * gate * up * 0.038 * np.sign(np.sin(1e3 * gate)) * (np.abs(gate) < 2)
    assert GELU_MUL_BF16.tolerance.excess(with_tanh, truth, ideal) > 1.3


def test_nan_stays() -> None:
    gate, up = (bf16.rounded(x) for x in _pair(128))
    gate[3], up[70], gate[100], up[101], gate[102] = np.nan, np.nan, np.inf, -np.inf, -np.inf
    y = run(GELU_MUL_BF16, gate=gate, up=up, y=np.zeros(128), n=128).outputs["y"]
    assert np.flatnonzero(np.isnan(y)).tolist() == [3, 70, 100, 101]
    assert abs(y[102]) < 1e-20


def test_limits() -> None:
    with pytest.raises(ValueError, match="a vector is 64 lanes"):
        GELU_MUL_BF16.check(n=100)
    with pytest.raises(ValueError, match="y is written within its buffer"):
        GELU_MUL_F32.check(n=256, y_offset=128, width=320)
