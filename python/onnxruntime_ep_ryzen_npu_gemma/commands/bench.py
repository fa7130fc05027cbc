"""`bench`: tokens a second, in llama-bench's columns and as context, time to first token, prefill and decode.

Prompts are random tokens, the same at every call. Each test runs once to warm up, then `--reps` times; the table gives
mean and standard deviation as llama-bench does, JSON every run's seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

if TYPE_CHECKING:
    from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder

__all__ = ["add_parser", "main"]

_FIRST_TOKEN = 256  # below it a Gemma vocabulary holds control tokens and single bytes


@dataclasses.dataclass(frozen=True)
class _Test:
    """`tokens` in one prefill or, one by one, in decode steps, after `depth` tokens of context.

    `seconds` and `depth_seconds`, the time that the context before took, have one number for each repetition.
    """

    name: str
    depth: int
    tokens: int
    seconds: tuple[float, ...]
    depth_seconds: tuple[float, ...]

    @property
    def label(self) -> str:
        return self.name + (f" @ d{self.depth}" if self.depth else "")

    @property
    def speeds(self) -> list[float]:
        return [self.tokens / seconds for seconds in self.seconds]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command's arguments."""
    parser = subparsers.add_parser(
        "bench",
        help="measure prefill and decode speed",
        description="Measures tokens a second: a prompt in one go (pp), then tokens one by one (tg), at each depth.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder that `convert` wrote")
    parser.add_argument("-p", type=_numbers, default=(512,), metavar="N,…", help="prompt lengths (default 512)")
    parser.add_argument("-n", type=_numbers, default=(128,), metavar="N,…", help="tokens to decode (default 128)")
    parser.add_argument("-d", type=_numbers, default=(0,), metavar="N,…", help="tokens of context before (default 0)")
    parser.add_argument("--reps", type=int, default=3, metavar="N", help="repetitions (default %(default)s)")
    parser.add_argument("--device", choices=("auto", "npu", "host"), default="auto", help="default %(default)s")
    parser.add_argument(
        "--accuracy", choices=("exact", "fast"), default="fast", help="fast: activations in 8 bits (default fast)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: onnxruntime's choice")
    parser.add_argument("--json", action="store_true", help="print one object with every run and the machine")


def main(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        Problem: bad values, a folder that is not a converted model, a test longer than the model's context.
    """
    from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
    from onnxruntime_ep_ryzen_npu_gemma.machine import machine_stamp
    from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder
    from onnxruntime_ep_ryzen_npu_gemma.session import open_session

    if args.reps < 1:
        raise Problem("there is nothing to measure", "--reps", args.reps, "give 1 or more")
    if not any((*args.p, *args.n)):
        raise Problem("there is nothing to measure", "-p and -n", 0, "give a length of 1 or more to one of them")
    folder = open_model_folder(args.model)
    context = max(args.d) + max(*args.p, *args.n)
    if context > folder.context_length:
        raise Problem("the test is longer than the model's context", "-d and -p or -n", context,
                      f"stay within {folder.context_length} tokens")  # fmt: skip
    start = time.perf_counter()
    session, placement = open_session(
        folder.model_path, device=args.device, accuracy=args.accuracy, threads=args.threads
    )
    decoder = Decoder(session, context, folder.windows)
    load_seconds = time.perf_counter() - start
    tests = []
    for depth in args.d:
        tests += [_run(decoder, "pp", depth, tokens, args.reps) for tokens in args.p if tokens]
        tests += [_run(decoder, "tg", depth, tokens, args.reps) for tokens in args.n if tokens]
    result: dict[str, Any] = {
        "model": str(folder.path),
        "bytes": sum(file.stat().st_size for file in folder.path.glob("model.onnx*")),
        "parameters": folder.parameters,
        "placement": placement.summary(),
        "accuracy": args.accuracy,
        "threads": args.threads,
        "load_seconds": load_seconds,
        "machine": machine_stamp(),
        "tests": [vars(test) | {"tokens_per_second": statistics.mean(test.speeds)} for test in tests],
    }
    print(json.dumps(result) if args.json else _text(result, tests))
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers of 0 or more with commas between them")
    return tuple(map(int, parts))


def _run(decoder: Decoder, kind: str, depth: int, tokens: int, reps: int) -> _Test:
    import numpy as np

    ids = np.random.default_rng(0).integers(_FIRST_TOKEN, decoder.vocab_size, depth + tokens).tolist()
    seconds, depth_seconds = [], []
    for rep in range(reps + 1):
        print(f"\r{kind}{tokens} @ {depth}: {rep}/{reps} ", end="", file=sys.stderr, flush=True)
        decoder.reset()
        before = time.perf_counter()
        if depth:
            decoder.prefill(ids[:depth])
        start = time.perf_counter()
        if kind == "pp":
            decoder.prefill(ids[depth:])
        else:
            for token in ids[depth:]:
                decoder.step(token)
        if rep:  # the first one warms up
            seconds.append(time.perf_counter() - start)
            depth_seconds.append(start - before)
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return _Test(f"{kind}{tokens}", depth, tokens, tuple(seconds), tuple(depth_seconds))


def _text(result: dict[str, Any], tests: list[_Test]) -> str:
    """llama-bench's table, then one line a depth and prompt: context, time to first token, prefill, decode."""
    from onnxruntime_ep_ryzen_npu_gemma.console import count, table

    machine = result["machine"]
    size = f"{result['bytes'] / 2**20:.1f} MiB"
    backend = f"RyzenNPUGemmaEP {result['placement']['device']} {result['accuracy']}"
    threads = str(result["threads"] or "auto")
    rows = []
    for test in tests:
        deviation = statistics.stdev(test.speeds) if len(test.speeds) > 1 else 0.0
        speed = f"{statistics.mean(test.speeds):.2f} ± {deviation:.2f}"
        rows.append((result["model"], size, count(result["parameters"]), backend, threads, test.label, speed))
    columns, by_context = (
        ("model", "size", "params", "backend", "threads", "test", "t/s"),
        ("Context", "TTFT", "Prefill", "Decode"),
    )
    lines = [
        table(columns, rows, right=frozenset(("size", "params", "threads", "t/s"))),
        table(by_context, _by_context(tests), right=frozenset(by_context)),
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instruction_sets'])}), "
        f"onnxruntime {machine['onnxruntime']}, session in {result['load_seconds']:.2f} s",
    ]
    return "\n\n".join(lines)


def _by_context(tests: list[_Test]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for depth in dict.fromkeys(test.depth for test in tests):
        here = [test for test in tests if test.depth == depth]
        decode = next((test for test in here if test.name.startswith("tg")), None)
        prefills: list[_Test | None] = [test for test in here if test.name.startswith("pp")]
        for prefill in prefills or [None]:
            speeds = [f"{statistics.mean(test.speeds):.1f} t/s" if test else "-" for test in (prefill, decode)]
            first = "-"
            if prefill:  # the first token comes after the whole context
                first = f"{statistics.mean(prefill.depth_seconds) + statistics.mean(prefill.seconds):.2f} s"
            rows.append((str(depth + (prefill.tokens if prefill else 0)), first, *speeds))
    return rows
