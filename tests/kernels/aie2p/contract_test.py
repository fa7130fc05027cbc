"""A contract refuses what a kernel cannot do, and its tolerance can fail."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.contract import Arg, KernelContract, Limit, Tolerance, buffer, scalar

DOUBLE = KernelContract(
    symbol="double_aie2p",
    source="double/aie2p.cc",
    args=(buffer("x", "bfloat16", "in", "rows", 32), buffer("y", "bfp16ebs8", "out", "rows * 32"), scalar("rows")),
    numerics="exact",
    tolerance=Tolerance("none: a test's own kernel"),
    reference=lambda x, rows: {"y": 2 * x},
    cycles=lambda rows: rows,
    limits=(Limit("rows % 8 == 0", "eight rows are an mmul tile"),),
    stack_bytes=128,
    static_bytes=64,
)


def test_bytes_follow_the_shape() -> None:
    assert DOUBLE.arg("x").dims(rows=8) == (8, 32)
    assert DOUBLE.arg("x").bytes(rows=8) == 512
    assert DOUBLE.arg("y").bytes(rows=8) == 288  # nine bytes for eight values
    assert DOUBLE.l1_bytes(rows=8) == 512 + 288 + 64 + 128
    assert DOUBLE.l1_bytes({"x": 2}, rows=8) == 2 * 512 + 288 + 64 + 128


def test_a_limit_says_why() -> None:
    DOUBLE.check(rows=16)
    with pytest.raises(ValueError, match=r"eight rows are an mmul tile: needs rows % 8 == 0; found \{'rows': 12\}"):
        DOUBLE.check(rows=12)


def test_l1_is_finite() -> None:
    with pytest.raises(ValueError, match="a core has 65536"):
        DOUBLE.check(rows=1024)
    DOUBLE.check(rows=512)
    with pytest.raises(ValueError, match="a core has 65536"):
        DOUBLE.check({"x": 2}, rows=512)


def test_a_wrong_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="has no argument 'z'"):
        DOUBLE.l1_bytes({"z": 2}, rows=8)
    with pytest.raises(ValueError, match="needs a size that was not given"):
        DOUBLE.l1_bytes(columns=8)
    with pytest.raises(ValueError, match="scalars have no shape"):
        Arg("n", "int32", "scalar", (1,))


def test_tolerance_compares_with_the_ideal() -> None:
    truth = np.array([1.0, 2.0, 4.0])
    ideal = truth + np.array([0.01, 0.0, -0.01])
    rule = Tolerance("a test's own")
    assert rule.excess(truth, truth, ideal) == 0.0
    assert rule.excess(truth + np.array([0.0, 0.015, 0.0]), truth, ideal) <= 1.0
    assert rule.excess(truth + np.array([0.0, 0.03, 0.0]), truth, ideal) > 1.0  # one element too far
    assert rule.excess(truth + 0.019, truth, ideal) > 1.0  # each within the worst, all together not
    assert Tolerance("", floor=0.01).excess(truth + 0.03, truth, truth) <= 1.0


def test_tolerance_keeps_nan_in_its_place() -> None:
    truth = np.array([1.0, np.nan])
    rule = Tolerance("a test's own", floor=1e-3)
    assert rule.excess(np.array([1.0, np.nan]), truth, truth) == 0.0
    assert rule.excess(np.array([1.0, 0.0]), truth, truth) == float("inf")
    assert rule.excess(np.array([np.nan, np.nan]), truth, truth) == float("inf")
