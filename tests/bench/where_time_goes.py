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
from tests.bench.roofline import markdown_table, measure_machine, peaks

__all__ = ["Part", "parts_of"]

_ROOT = Path(__file__).parents[2]
_WARM_UP, _RUNS = 3, 21
_PROJECTIONS = {"q_proj": "q, k, v", "k_proj": "q, k, v", "gate_proj": "gate, up", "o_proj": "o", "down_proj": "down"}


@dataclasses.dataclass(frozen=True)
class Part:
    """What all launches of one kind take in a run; medians over the runs."""

    name: str
    launches: int
    seconds: float
    bytes: int
    operations: int


Peak = Callable[[Part], float]  # operations a second that the machine could do of it


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


def _table(columns: Mapping[str, list[Part]], bandwidth: float, peaks: Mapping[str, Peak], *, by_bytes: bool) -> str:
    """One row a part, for each column's parts: ms, share, GB/s or Gop/s, and how much of the roofline that is."""
    names = {part.name: part.launches for parts in columns.values() for part in parts}
    rows = [[name, str(launches or "")] for name, launches in names.items()]
    rows.append(["all", str(sum(names.values()))])
    header = ["", "launches"]
    for column, parts in columns.items():
        header += [f"{column}, ms", "share", "GB/s" if by_bytes else "Gop/s", "of the roofline"]
        total = sum(part.seconds for part in parts)
        amounts = {
            part.name: (
                part.seconds,
                part.bytes if by_bytes else part.operations,
                max(part.bytes / bandwidth, part.operations / peaks[column](part)),
            )
            for part in parts
        }
        amounts["all"] = tuple(sum(values) for values in zip(*amounts.values(), strict=True))  # fmt: skip
        for row in rows:
            seconds, amount, best = amounts.get(row[0], (0, 0, 0))
            row += [f"{seconds * 1e3:.3f}", f"{seconds / total:.1%}"] if seconds else ["", ""]
            row += [f"{amount / seconds / 1e9:.{by_bytes:d}f}", f"{best / seconds:.0%}"] if best else ["", ""]
    return markdown_table(tuple(header), [tuple(row) for row in rows])


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

    tokens, prompts = {}, {}
    before = measure_machine(args.program, args.threads)
    for accuracy in args.accuracy:
        tokens[accuracy] = _profile(folder, accuracy, args.threads, step)
        prompts[accuracy] = _profile(folder, accuracy, args.threads, prompt)
    after = measure_machine(args.program, args.threads)
    rates = {name: (before[name] + after[name]) / 2 for name in before}
    floating, integer, half = peaks(rates)
    if args.json:
        results = {"token": tokens, "prompt": prompts}
        plain = {k: {a: [vars(part) for part in parts] for a, parts in v.items()} for k, v in results.items()}
        print(json.dumps({"machine": rates} | plain))
        return 0

    def exact(part: Part) -> float:
        return floating

    def fast_token(part: Part) -> float:
        return floating if part.name == "attention" else integer

    def fast_prompt(part: Part) -> float:
        return half if part.name == "attention" else integer

    print("Giga a second, mean of before and after: ", end="")
    print(", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in rates.items()))
    print(f"\nA token after {args.context} others\n")
    print(_table(tokens, rates["ReadBandwidth"], {"exact": exact, "fast": fast_token}, by_bytes=True))
    print(f"\nA prompt of {args.prompt}\n")
    print(_table(prompts, rates["ReadBandwidth"], {"exact": exact, "fast": fast_prompt}, by_bytes=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
