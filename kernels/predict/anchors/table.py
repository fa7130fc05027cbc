"""The anchors: what was published, and what the time model says of it.

All published figures are medians or best runs of the sources named; Strix, turbo power mode, 2026. Slots are issue
slots a call, counted by running the public kernel through kernels/aie_emulation (rope_halfsplit.cc, mv.cc, mm_aie2p.cc,
attn_npu2.cc and proj_qmm.cc of mlir-air's programming_examples); the time model's own bundles-per-slot factor comes on
top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from ...sim import KernelModel, time_design
from ..launch import DISPATCH_SECONDS
from .attention import HEADS, QUERIES, attention
from .gemm import gemm
from .gemv import gemv
from .streams import streams
from .weight_stream import BLOCK, weight_stream

REGISTRY = "mlir-air programming_examples/kernel_registry"
FUSED_DECODE = "mlir-air programming_examples/fused_decode/README.md"


@dataclass(frozen=True)
class Anchor:
    """One published measurement.

    Attributes:
        published: Seconds.
        launches: Designs, their kernels' slots, and how often each runs, one after the other.
        dispatches: Of the host.
        miss: Why the model is not expected to meet it; empty: it is.
    """

    name: str
    source: str
    published: float
    launches: Callable[[], list[tuple[Any, dict[str, float], float]]]
    dispatches: int = 1
    miss: str = ""

    def predict(self) -> float:
        """Seconds by the time model."""
        total = self.dispatches * DISPATCH_SECONDS
        for design, slots, times in self.launches():
            kernels = {symbol: KernelModel(cycles=count) for symbol, count in slots.items()}
            seconds = time_design(design, kernels=kernels).seconds
            assert seconds is not None
            total += times * seconds
        return total


@dataclass(frozen=True)
class Compared:
    """An anchor with its prediction."""

    anchor: Anchor
    predicted: float

    @property
    def ratio(self) -> float:
        """Predicted over published time."""
        return self.predicted / self.anchor.published


def _add(elements: int, microseconds: float, columns: int = 8, miss: str = "") -> Anchor:
    tile = 2048
    return Anchor(
        f"add, {elements >> 20} M bf16, {columns} columns",
        f"{REGISTRY}/details/EltwiseAdd_bf16.md",
        microseconds * 1e-6,
        lambda: [(streams(elements, tile, columns=columns, interleaved=False), {"elementwise": tile / 16}, 1)],
        miss=miss,
    )


def _rope(rows: int, dim: int, microseconds: float) -> Anchor:
    return Anchor(
        f"RoPE, {rows} x {dim}",
        f"{REGISTRY}/details/RoPE_bf16.md",
        microseconds * 1e-6,
        lambda: [(streams(rows * dim, dim, columns=8, interleaved=True), {"elementwise": 6 * dim / 32}, 1)],
    )


def _gemv(m: int, k: int, tile_m: int, microseconds: float) -> Anchor:
    return Anchor(
        f"GEMV, {m} x {k}",
        f"{REGISTRY}/details/GEMV_bf16.md",
        microseconds * 1e-6,
        lambda: [(gemv(m, k, tile_m), {"gemv": tile_m * k / 32}, 1)],
    )


def _gemm(m: int, k: int, n: int, gflops: float, *, k_l2: int, tile_m: int = 64) -> Anchor:
    tile_n, k_l1 = 128, 32
    # 2 x 2 blocks of 8x8x8: one operand converted a multiplication, and C loaded and stored once per call.
    slots = 2 * (tile_m // 8) * (tile_n // 8) * (k_l1 // 8)
    return Anchor(
        f"GEMM, {m} x {k} x {n}",
        f"{REGISTRY}/details/GEMM_bf16_in_fp32_out.md",
        2.0 * m * k * n / (gflops * 1e9),
        lambda: [(gemm(m, k, n, tile_m=tile_m, k_l2=k_l2), {"gemm": slots}, 1)],
    )


# Of attn_npu2.cc, 64 x 64 tiles: the sums of what a core calls (scores: zero_fill_g, matmul_a_b; values: fused_softmax,
# mul_r_gp, matmul_g_b, accum_sp_r_s, copy; merge: two exponentials, two mul_r_gp, add_gp_g; finish: division too).
ATTENTION_SLOTS = {
    "init": 129.0,
    "keep": 128.0,
    "scores": 1151.0,
    "values": 2552.0,
    "send": 0.0,
    "merge": 419.0,
    "finish": 659.0,
}


def _attention(length: int, heads: int, milliseconds: float) -> Anchor:
    return Anchor(
        f"attention, {length} x {length}, {heads} heads of 64",
        f"{REGISTRY}/details/FlashAttention_bf16.md",
        milliseconds * 1e-3,
        lambda: [(attention(length), ATTENTION_SLOTS, length // QUERIES * (heads // HEADS))],
        miss="between its products this kernel reduces eight lanes to a scalar 128 times a key tile and loops eight "
        "rounds at a time: latencies, which issue slots do not show",
    )


def _decode(name: str, weights: float, layers: int, kv: float, tokens_per_second: float, source: str) -> Anchor:
    """Weights and the read-back of keys and values in equal layers; the head is part of the weights."""
    blocks = round((weights + kv) / layers / BLOCK)
    return Anchor(
        name,
        source,
        1.0 / tokens_per_second,
        lambda: [(weight_stream(blocks), {"project": 1168.0, "finish": 4.0}, layers)],
    )


ANCHORS = (
    _add(1 << 20, 175),
    _add(1 << 21, 277),
    _add(1 << 22, 437),
    _add(1 << 23, 798),
    _add(
        1 << 22,
        2759,
        columns=1,
        miss="one core is bound by its own code: compiler-made MLIR vectors of 16, some 18 cycles each, not pipelined",
    ),
    _rope(2048, 64, 105),
    _rope(16384, 64, 210),
    _rope(65536, 64, 579),
    _rope(32768, 128, 477),
    _rope(49152, 128, 667),
    _gemv(512, 2048, 8, 136),
    _gemv(2048, 2048, 8, 330),
    _gemv(8192, 2048, 8, 1067),
    _gemv(2048, 8192, 2, 1082),
    _gemv(4096, 2560, 8, 696),
    _gemv(9728, 2560, 8, 1530),
    _gemv(16384, 3072, 8, 3083),
    _gemm(512, 512, 512, 1791, k_l2=256, tile_m=32),
    _gemm(1024, 1024, 1024, 6256, k_l2=256),
    _gemm(2048, 2048, 512, 7342, k_l2=256),
    _gemm(2048, 2048, 2048, 8508, k_l2=512),
    _gemm(2048, 2048, 8192, 8278, k_l2=256),
    _gemm(2048, 8192, 2048, 9797, k_l2=256),
    _gemm(4096, 4096, 4096, 9329, k_l2=512),
    _attention(16384, 2, 40.1),
    _attention(512, 64, 3.79),
    _decode("decode, Gemma3-4B, mlir-air, staircase", 2.425e9, 34, 34 * 256 * 4096, 18.55, FUSED_DECODE),
    _decode("decode, Gemma3-4B, mlir-air, one window", 2.425e9, 34, 34 * 2048 * 4096, 17.1, FUSED_DECODE),
    _decode("decode, Llama-3.2-1B, mlir-air, staircase", 0.772e9, 16, 16 * 256 * 2048, 58.61, FUSED_DECODE),
    _decode("decode, Llama-3.2-1B, mlir-air, one window", 0.772e9, 16, 16 * 2048 * 2048, 52.3, FUSED_DECODE),
    _decode(
        "decode, Gemma3-4B at 1k, FastFlowLM (the paper)", 2.425e9, 34, 34 * 1024 * 4096, 18.2, "arXiv 2602.06063 v2"
    ),
)


def compare() -> list[Compared]:
    """All anchors."""
    return [Compared(anchor, anchor.predict()) for anchor in ANCHORS]


def median_error(compared: list[Compared]) -> float:
    """Median of |predicted/published - 1|, misses included."""
    return median(abs(c.ratio - 1.0) for c in compared)


def markdown(compared: list[Compared]) -> str:
    """The table of docs/npu.md."""
    lines = ["| measurement | published | predicted | ratio | source |", "|---|---:|---:|---:|---|"]
    for c in compared:
        unit = (1e6, "us") if c.anchor.published < 1e-3 else (1e3, "ms")
        published, predicted = c.anchor.published * unit[0], c.predicted * unit[0]
        note = f"; *{c.anchor.miss}*" if c.anchor.miss else ""
        lines.append(
            f"| {c.anchor.name} | {published:.4g} {unit[1]} | {predicted:.4g} {unit[1]} | {c.ratio:.2f} "
            f"| {c.anchor.source}{note} |"
        )
    lines.append(f"\nMedian error of {len(compared)}: {median_error(compared):.1%}.")
    return "\n".join(lines)
