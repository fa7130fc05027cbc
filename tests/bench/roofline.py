"""How far the hardware goes: bytes and operations of Gemma3 a token, against what this machine reads and multiplies.

    python -m tests.bench.roofline [--threads 2] [--program build/release/tests/kernels/bench/kernel_bench]

Needs that program: cmake --preset release && cmake --build --preset release --target kernel_bench
Measures read bandwidth and peak rates (the benches ReadBandwidth and Peak of kernel_bench), prints the ceilings of
docs/performance.md, and, where `python -m tests.bench.peers` has left its results, how much of them ours reach.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench.peers.contest import MEMORY
from tests.bench.peers.results import Results
from tests.bench.random_model import SIZES

__all__ = ["Work", "markdown_table", "measure_machine", "peaks"]

_ROOT = Path(__file__).parents[2]
_VOCABULARY, _HEAD_DIM, _WINDOW, _PATTERN = 262144, 256, 512, 6
_KV_BYTES = 2  # float16


@dataclasses.dataclass(frozen=True)
class Work:
    """What one size of Gemma3 has to read and to multiply, weights in Q4NX, the head as well."""

    size: str

    @property
    def body(self) -> int:
        """Weights of all layers' matrices."""
        hidden, layers, intermediate, heads, kv_heads = SIZES[self.size]
        attention = 2 * heads * _HEAD_DIM * hidden + 2 * kv_heads * _HEAD_DIM * hidden
        return layers * (attention + 3 * hidden * intermediate)

    @property
    def head(self) -> int:
        """Weights of the head, which is the embedding too."""
        return _VOCABULARY * SIZES[self.size][0]

    def keys(self, position: int) -> int:
        """Keys that one token sees in all layers together, itself among them."""
        layers = SIZES[self.size][1]
        full = layers // _PATTERN
        return full * (position + 1) + (layers - full) * min(position + 1, _WINDOW)

    def kv_bytes(self, position: int) -> int:
        """Keys and values read for one token."""
        return self.keys(position) * 2 * SIZES[self.size][4] * _HEAD_DIM * _KV_BYTES

    @property
    def weight_bytes(self) -> dict[str, float]:
        """By accuracy: 5 bits a weight; 4.5 with rounded scales, and 4 bytes a row (kernels/matmul_nbits)."""
        hidden, layers, intermediate, heads, kv_heads = SIZES[self.size]
        rows = layers * ((heads + 2 * kv_heads) * _HEAD_DIM + 2 * hidden + 2 * intermediate) + _VOCABULARY
        weights = self.body + self.head
        return {"exact": weights * 5 / 8, "fast": weights * 4.5 / 8 + rows * 4}

    def prefill_matrix_operations(self, tokens: int) -> int:
        """A multiply-add counts as two; the head is needed once."""
        return 2 * (tokens * self.body + self.head)

    def prefill_attention_operations(self, tokens: int) -> int:
        """Scores and weighted sums."""
        heads = SIZES[self.size][3]
        return sum(self.keys(position) for position in range(tokens)) * 2 * 2 * heads * _HEAD_DIM


def measure_machine(program: Path, threads: int) -> dict[str, float]:
    """Bytes and operations a second, by the benches' names."""
    pattern = f"^(ReadBandwidth|Peak/.*)/team:{threads}/"
    run = subprocess.run(
        [program, f"--benchmark_filter={pattern}", "--benchmark_format=json"],
        check=True,
        capture_output=True,
        text=True,
    )
    rates = {}
    for bench in json.loads(run.stdout)["benchmarks"]:
        unit = "GB/s" if "GB/s" in bench else "Gop/s"
        rates[bench["name"].split("/team:")[0].removeprefix("Peak/")] = bench[unit] * 1e9
    return rates


def markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reached(value: float | None, ceiling: float) -> tuple[str, str]:
    return ("-", "-") if value is None else (f"{value:.0f}", f"{value / ceiling:.0%}")


def peaks(rates: Mapping[str, float]) -> tuple[float, float, float]:
    """The best of the machine's rows in fp32, in int8, and in bf16 where that is faster than fp32."""
    floating = max(rate for name, rate in rates.items() if "fp32" in name)
    integer = max(rate for name, rate in rates.items() if "int8" in name or "vnni" in name)
    return floating, integer, max([floating, *(rate for name, rate in rates.items() if "bf16" in name)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, choices=(1, 2))
    parser.add_argument("--program", type=Path, default=_ROOT / "build/release/tests/kernels/bench/kernel_bench")
    args = parser.parse_args()
    rates = measure_machine(args.program, args.threads)
    print(f"{args.threads} threads\n")
    print(markdown_table(("", "measured"), [(name, f"{rate / 1e9:.1f} G{'B' if 'Read' in name else 'op'}/s")
                                    for name, rate in rates.items()]))  # fmt: skip
    floating, integer, half = peaks(rates)
    for size in ("270m", "1b"):
        work, results = Work(size), Results(size)
        rows: list[tuple[str, ...]] = []
        for context in (64, 1024, 4096, 16384):
            cell, kv = f"decode@{context}", work.kv_bytes(context)
            between = results.median(cell, MEMORY)
            bandwidth = between * 1e9 if between else rates["ReadBandwidth"]
            cells = []
            for how, weights in work.weight_bytes.items():
                ceiling = bandwidth / (weights + kv)
                speed = results.median(cell, f"ours, 5-bit head, {how}")
                cells += [f"{(weights + kv) / 1e6:.1f} MB", f"{ceiling:.0f}", *_reached(speed, ceiling)]
            rows.append((f"{context}", f"{kv / 1e6:.1f} MB", f"{bandwidth / 1e9:.1f}", *cells))
        print(f"\nDecode, {size}, 5-bit head: one token reads\n")
        columns = (("exact, bytes", "ceiling, t/s", "exact", ""), ("fast, bytes", "ceiling, t/s", "fast", ""))
        header = ("context", "of them KV", "GB/s meanwhile", *columns[0], *columns[1])
        print(markdown_table(header, rows))
        rows = []
        for tokens in (128, 512, 2048):
            matrices, attention = work.prefill_matrix_operations(tokens), work.prefill_attention_operations(tokens)
            ceilings = [
                tokens / (matrices / products + attention / scores)
                for products, scores in ((floating, floating), (integer, half))
            ]
            cells = []
            for how, ceiling in zip(("exact", "fast"), ceilings, strict=True):
                value = results.median(f"prefill@{tokens}", f"ours, 5-bit head, {how}")
                cells += [f"{ceiling:.0f}", *_reached(value, ceiling)]
            rows.append((f"{tokens}", f"{matrices / 1e9:.1f} G", f"{attention / 1e9:.1f} G", *cells))
        print(f"\nPrefill, {size}: a prompt takes so many operations\n")
        header = ("tokens", "matrices", "attention", "fp32 ceiling, t/s", "exact", "", "int8 ceiling, t/s", "fast", "")
        print(markdown_table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
