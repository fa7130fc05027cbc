"""Where the time of a decode step and of a prompt goes, launch by launch, beside what the machine could do meanwhile.

    python -m tests.bench.where_time_goes MODEL [--accuracy exact fast] [--prompt 512] [--context 64] [--json]

Takes the times from the provider's option `profile`; bandwidth and peak rates are measured before and after, see
tests.bench.roofline, and the mean is taken. A part's roofline is the longer of the times for its bytes and for its
operations. Bytes: weights, keys and values; activations, which stay in the processor's caches, are not counted. What
onnxruntime and Python add to a run is not in the profile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import onnxruntime_ep_ryzen_npu_gemma as ryzen
from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
from onnxruntime_ep_ryzen_npu_gemma.model_folder import ModelFolder, open_model_folder
from tests.bench.roofline import markdown_table, measure_machine

__all__ = ["Part", "parts_of"]

_ROOT = Path(__file__).parents[2]
_WARM_UP, _RUNS = 3, 21
_PROJECTIONS = {"q_proj": "q, k, v", "gate_proj": "gate, up", "o_proj": "o", "down_proj": "down"}


@dataclasses.dataclass(frozen=True)
class Part:
    """What all launches of one kind take in a run; medians over the runs."""

    name: str
    launches: int
    seconds: float
    bytes: int
    operations: int


def parts_of(events: Iterable[Mapping[str, Any]]) -> list[Part]:
    """Adds up the events of some equal runs by kind, and what of a run no launch has."""
    runs: list[dict[str, list[Mapping[str, Any]]]] = []
    whole: list[float] = []
    for event in events:
        if event["cat"] == "run":
            runs.append({})
            whole.append(event["dur"] * 1e-6)
        else:
            runs[-1].setdefault(_kind(event), []).append(event)
    parts = []
    for kind, first in runs[-1].items():
        seconds = [sum(e["dur"] for e in run[kind]) * 1e-6 for run in runs]
        amounts = [sum(e["args"][what] for e in first) for what in ("bytes", "operations")]
        parts.append(Part(kind, len(first), statistics.median(seconds), *amounts))
    parts.sort(key=lambda part: -part.seconds)
    launches = [sum(e["dur"] for events in run.values() for e in events) * 1e-6 for run in runs]
    between = statistics.median(all_ - part for all_, part in zip(whole, launches, strict=True))
    return [*parts, Part("between launches", 0, between, 0, 0)]


def _kind(event: Mapping[str, Any]) -> str:
    """A product by its matrices, all else by what is done."""
    if event["cat"] != "product":
        return str(event["cat"])
    last = re.sub(r"^model\.layers\.\d+\.\w+\.", "", event["name"])
    return next((name for matrix, name in _PROJECTIONS.items() if matrix in last), last.removeprefix("model."))


def _profile(folder: ModelFolder, accuracy: str, threads: int, run: Callable[[Decoder], object]) -> list[Part]:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "profile.json"
        options = ryzen.session_options(device="host", strict=True, accuracy=accuracy, profile=path)
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(folder.model_path, options)
        decoder = Decoder(session, folder.context_length, folder.windows)
        for _ in range(_WARM_UP + _RUNS):
            run(decoder)
        del session, decoder  # the file is complete
        events = json.loads(path.read_text(encoding="utf-8"))
    starts = [i for i, event in enumerate(events) if event["cat"] == "run"]
    return parts_of(events[starts[-_RUNS] :])


def _rows(parts: list[Part], rates: Mapping[str, float], peak_of: Callable[[Part], float]) -> list[tuple[str, ...]]:
    total = sum(part.seconds for part in parts)
    rows, best_total = [], 0.0
    for part in parts:
        best = max(part.bytes / rates["ReadBandwidth"], part.operations / peak_of(part))
        best_total += best
        rows.append(
            (
                part.name,
                str(part.launches or ""),
                f"{part.seconds * 1e3:.3f}",
                f"{part.seconds / total:.1%}",
                f"{part.bytes / 1e6:.1f}" if part.bytes else "",
                f"{part.bytes / part.seconds / 1e9:.1f}" if part.bytes else "",
                f"{part.operations / 1e9:.2f}" if part.operations else "",
                f"{part.operations / part.seconds / 1e9:.0f}" if part.operations else "",
                f"{best / part.seconds:.0%}" if best else "",
            )
        )
    bytes_, operations = sum(part.bytes for part in parts), sum(part.operations for part in parts)
    rows.append(("all", str(sum(part.launches for part in parts)), f"{total * 1e3:.3f}", "", f"{bytes_ / 1e6:.1f}",
                 f"{bytes_ / total / 1e9:.1f}", f"{operations / 1e9:.2f}", f"{operations / total / 1e9:.0f}",
                 f"{best_total / total:.0%}"))  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--accuracy", nargs="+", choices=("exact", "fast"), default=["exact", "fast"])
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt (default %(default)s)")
    parser.add_argument("--context", type=int, default=64, help="tokens before the decode step (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, choices=(1, 2))
    parser.add_argument("--program", type=Path, default=_ROOT / "build/release/tests/kernels/bench/kernel_bench")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = open_model_folder(args.model)
    ids = np.random.default_rng(0).integers(1000, 200_000, max(args.prompt, args.context)).tolist()

    def prompt(decoder: Decoder) -> None:
        decoder.reset()
        decoder.forward(ids[: args.prompt])

    def step(decoder: Decoder) -> None:
        if decoder.length == 0:
            decoder.prefill(ids[: args.context])
        decoder.forward(ids[:1])

    results: dict[str, list[Part]] = {}
    before = measure_machine(args.program, args.threads)
    for accuracy in args.accuracy:
        results[f"A token after {args.context}, {accuracy}"] = _profile(folder, accuracy, args.threads, step)
        results[f"A prompt of {args.prompt}, {accuracy}"] = _profile(folder, accuracy, args.threads, prompt)
    after = measure_machine(args.program, args.threads)
    rates = {name: (before[name] + after[name]) / 2 for name in before}
    floating = max(rate for name, rate in rates.items() if "fp32" in name)
    integer = max(rate for name, rate in rates.items() if "int8" in name or "vnni" in name)
    half = max((rate for name, rate in rates.items() if "bf16" in name), default=floating)
    if args.json:
        print(json.dumps({"machine": rates, **{k: [vars(part) for part in v] for k, v in results.items()}}))
        return 0
    shown = ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in rates.items())
    print(f"G a second, mean of before and after: {shown}")
    for name, parts in results.items():
        fast, attends = name.endswith("fast"), half if name.startswith("A prompt") else floating

        def peak_of(part: Part, fast: bool = fast, attends: float = attends) -> float:
            if not fast:
                return floating
            return attends if part.name == "attention" else integer

        header = ("", "launches", "ms", "share", "MB", "GB/s", "Gop", "Gop/s", "of the roofline")
        print(f"\n{name}\n")
        print(markdown_table(header, _rows(parts, rates, peak_of)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
