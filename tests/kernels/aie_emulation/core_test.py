"""What the emulated core counts, what it reports, and what it refuses to compile."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.aie_emulation.host_library import Counters, aligned, bfloat16_values

from .probing import SATURATE, SYMMETRIC, Core

ROOT = Path(__file__).resolve().parents[3]


def _counts(name: str, *sizes: tuple[int, Any], scalar: int | None = None) -> Counters:
    core = Core()
    core.library.call(name, *(aligned(n, dtype) for n, dtype in sizes), *([] if scalar is None else [scalar]))
    return core.library.counters()


BF16, F32, I16, U8 = (64, np.uint16), (64, np.float32), (64, np.int16), (64, np.uint8)


@pytest.mark.parametrize(
    "name, sizes, expected",
    [  # load, store, move, multiply, scalar
        ("bf16_to_float", (BF16, F32), (2, 4, 0, 0, 0)),  # the widening rides on the load
        ("float_to_bf16", (F32, BF16), (4, 2, 0, 0, 0)),  # the narrowing is the store
        ("mul_bf16", (BF16, BF16, F32), (4, 4, 0, 1, 0)),  # 64 lanes an instruction
        ("mul_bf16_scalar", (BF16, BF16, F32), (4, 4, 2, 1, 0)),  # and a broadcast into two registers
        ("add_bf16", (BF16, BF16, BF16), (4, 2, 0, 1, 0)),
        ("max_bf16", (BF16, BF16, BF16), (4, 2, 2, 0, 0)),
        ("exp2_float", (F32, BF16), (4, 2, 4, 0, 0)),  # 16 lanes an instruction
        ("inv_float", (F32, F32), (4, 4, 128, 0, 64)),  # lane by lane
        ("mul_float", (F32, F32, F32), (8, 4 + 12, 8, 26, 0)),  # nine products of three limbs
        ("reduce_add_float64", (F32, (1, np.float32)), (4, 0, 6, 6, 0)),
        ("unpack_uint4", (U8, (128, np.uint8)), (1, 2, 0, 0, 0)),  # unpacked by the load
        (
            "count_transpose_uint8",
            ((128, np.uint8), (128, np.uint8)),
            (2, 2, 4, 0, 0),
        ),  # has no shuffle mode of its own
        ("count_unfused", (BF16, BF16), (2, 4, 6, 0, 0)),  # ups 2, neg 2 + 2; narrow 2, store 2
        (
            "count_two_by_two",
            ((256, np.uint16), (256, np.float32)),
            (8, 16 + 4, 4, 4 + 2, 0),
        ),  # each operand converts once
    ],
)
def test_issue_slots(name: str, sizes: Any, expected: tuple[int, ...]) -> None:
    c = _counts(name, *sizes)
    assert (c.load, c.store, c.move, c.multiply, c.scalar) == expected
    assert c.misaligned == 0


def test_cycles_are_the_busiest_slot() -> None:
    assert Counters(load=9, store=4, move=3, multiply=2, scalar=1, misaligned=0).cycles == 5
    assert Counters(load=2, store=4, move=3, multiply=2, scalar=1, misaligned=0).cycles == 4
    assert Counters(load=2, store=4, move=3, multiply=9, scalar=1, misaligned=0).cycles == 9


def test_a_misaligned_access_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    core = Core()
    core.library.call("bf16_to_float", aligned(80, np.uint16)[1:65], aligned(64, np.float32))
    assert core.library.counters().misaligned == 1
    assert "is not aligned to 64 bytes" in capfd.readouterr().err


def test_counters_and_modes_reset() -> None:
    core = Core("ceil")
    core("float_to_bf16", np.zeros(64, np.float32), out=(64, np.uint16))
    assert core.library.counters().load == 4
    core.library.reset_counters()
    assert core.library.counters() == Counters(0, 0, 0, 0, 0, 0)
    assert core.library.rounding() == 1
    core.library.reset_core()
    assert core.library.rounding() == 0  # floor


def test_swapping_modes_gives_those_before() -> None:
    core = Core("conv_even", SATURATE)
    assert core("swap_modes", 1, SYMMETRIC, out=(4, np.int32)).tolist() == [12, SATURATE, 1, SYMMETRIC]
    x = np.full(64, 1 + 2**-9, np.float32)  # the new mode, ceil, counts
    assert np.array_equal(bfloat16_values(core("float_to_bf16", x, out=(64, np.uint16))), np.full(64, 1 + 2**-7))


@pytest.mark.parametrize("name", ["ups_int32", "srs_acc32_int32"])
def test_a_shift_that_the_core_would_lose_is_refused(name: str) -> None:
    x = np.arange(64, dtype=np.int32)
    assert np.array_equal(Core()(name, x, 0, out=(64, np.int32)), x)
    code = (
        "import numpy as np; from tests.kernels.aie_emulation.probing import Core; "
        f"Core()({name!r}, np.zeros(64, np.int32), 1, out=(64, np.int32))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGABRT
    assert "without a shift" in result.stderr


@pytest.mark.parametrize(
    "body, reason",
    [
        ("aie::vector<bfloat16, 32> v = aie::accum<accfloat, 32>();", "conversion"),
        ("using V = aie::vector<float, 16>; aie::reduce_add_v(V(), V(), V(), V(), V());", "4 vectors at most"),
        ("aie::mmul<8, 8, 8, int16, int16> m;", "matrix shape that AIE2P, or this emulation, does not have"),
        ("aie::mmul<3, 8, 8, int8, int8> m;", "matrix shape"),
        ("aie::vector<double, 8> v;", "element type that the emulation does not have"),
        ("aie::mul(aie::vector<bfloat16, 32>(), aie::vector<int8, 32>());", "both operands are floating point"),
        ("aie::exp2<float>(aie::vector<float, 16>());", "exp2 gives bfloat16"),
        ("aie::sincos(aie::vector<float, 16>());", "sincos"),
        ("aie::accum_cast<accfloat>(aie::accum<acc32, 16>());", "accum_cast"),  # is the API's, but in aie::detail
        ("aie::max(aie::vector<uint4, 64>(), aie::vector<uint4, 64>());", "4-bit"),
    ],
)
def test_what_is_not_there_does_not_compile(body: str, reason: str, tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no c++ on the path")
    source = tmp_path / "kernel.cc"
    includes = ["-I", str(ROOT), "-I", str(ROOT / "kernels/aie_emulation")]

    def compiled(text: str) -> subprocess.CompletedProcess[str]:
        source.write_text(f"#include <aie_api/aie.hpp>\nvoid f() {{ {text} }}\n")
        command = [compiler, "-std=c++20", "-fsyntax-only", *includes, str(source)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    result = compiled(body)
    assert result.returncode != 0
    assert reason in result.stderr
