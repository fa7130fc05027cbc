"""Who is measured, what is measured, and the order: cell by cell, in rounds, each contestant in turn.

One process a contestant lives through a cell and is stopped (SIGSTOP) while others are measured, so that no idle team
of threads spins beside them. The first round warms up. Prompts differ from round to round: a cache of
prefixes would know them otherwise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.bench.peers.environments import environment
from tests.bench.peers.models import model_path

__all__ = ["CELLS", "CONTESTANTS", "MEMORY", "Cell", "Contestant", "Sample", "measure", "read_bandwidth"]

MEMORY = "memory read, GB/s"  # measured between the rounds of decode: a virtual machine's bandwidth comes and goes
_BENCH = Path(__file__).parents[3] / "build/release/tests/kernels/bench/kernel_bench"
_ENGINES = Path(__file__).with_name("engines")
_FIRST_TOKEN, _END = 1000, 200_000  # ordinary tokens of a Gemma vocabulary
_LONG = 1024  # a context that is made once: what the rounds add to it does not matter


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of the table: an engine with a model of its own.

    Attributes:
        engine: a script of engines/.
        environment: a key of `PACKAGES`; empty for ours, which runs in this interpreter's.
        model: a key of `MODELS`.
        options: of the script.
    """

    name: str
    engine: str
    environment: str
    model: str
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cell:
    """One column: `decode` after, or `prefill` of that many tokens, or `start`, which gives two."""

    kind: str
    tokens: int

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.kind}@{self.tokens}" if self.tokens else self.kind


@dataclasses.dataclass(frozen=True)
class Sample:
    """One measurement: tokens a second, or seconds and bytes."""

    column: str
    contestant: str
    value: float
    version: str


CONTESTANTS = (
    Contestant("ours, 5-bit head, exact", "ours", "", "ours-q4-head", ("--accuracy=exact",)),
    Contestant("ours, 5-bit head, fast", "ours", "", "ours-q4-head", ("--accuracy=fast",)),
    Contestant("ours, 8.5-bit head, exact", "ours", "", "ours-q8-head", ("--accuracy=exact",)),
    Contestant("ours, 8.5-bit head, fast", "ours", "", "ours-q8-head", ("--accuracy=fast",)),
    Contestant("llama.cpp Q4_0", "llama_cpp_engine", "llama_cpp", "llama-q4_0"),
    Contestant("llama.cpp Q4_0, head too", "llama_cpp_engine", "llama_cpp", "llama-q4_0-pure"),
    Contestant("llama.cpp Q4_1, head too", "llama_cpp_engine", "llama_cpp", "llama-q4_1-pure"),
    Contestant("llama.cpp Q4_K_M", "llama_cpp_engine", "llama_cpp", "llama-q4_k_m"),
    Contestant("onnxruntime-genai int4", "genai_engine", "genai", "genai-int4"),
    Contestant("OpenVINO GenAI int4", "openvino_engine", "openvino", "openvino-int4"),
)

CELLS = (
    *(Cell("decode", tokens) for tokens in (64, 1024, 4096, 16384)),
    *(Cell("prefill", tokens) for tokens in (128, 512, 2048)),
    Cell("start", 0),
)


def measure(
    size: str, cell: Cell, contestants: Sequence[Contestant], *, rounds: int, threads: int, decode_tokens: int
) -> Iterator[Sample]:
    """Measures one cell, and gives each sample as it is known.

    Raises:
        RuntimeError: an engine's process ended; its output went to stderr.
    """
    for contestant in contestants:
        model_path(size, contestant.model)  # nothing is converted while others are measured
    if cell.kind == "start":
        yield from _starts(size, contestants, rounds, threads)
        return
    context = max(cell.tokens, 512) + decode_tokens * (rounds + 2)  # genai's sliding caches want no less than a window
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_Process(size, c, threads, context)) for c in contestants]
        for process in processes:
            process.ask("load", _prompt(8, 0))
        yield from _rounds(processes, cell, rounds, threads, decode_tokens)


def read_bandwidth(threads: int) -> float | None:
    """Bytes a second, by the bench ReadBandwidth; None where it is not built, or not for so many threads."""
    if not _BENCH.is_file():
        return None
    command = [_BENCH, f"--benchmark_filter=^ReadBandwidth/team:{threads}/", "--benchmark_format=json"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    benches = json.loads(run.stdout or '{"benchmarks": []}')["benchmarks"]
    return float(benches[0]["GB/s"]) * 1e9 if benches else None


class _Process:
    """An engine's process, stopped except while it answers."""

    def __init__(self, size: str, contestant: Contestant, threads: int, context: int) -> None:
        python = environment(contestant.environment) if contestant.environment else Path(sys.executable)
        script = _ENGINES / f"{contestant.engine}.py"
        command = [python, script, model_path(size, contestant.model), *contestant.options]
        options = [f"--threads={threads}", f"--context={context}"]
        self.contestant = contestant
        self._process = subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.version = str(self._answer()["version"])

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def ask(self, command: str, value: object) -> float:
        """The one number of the answer."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps({command: value}) + "\n")
        (number,) = self._answer().values()
        return float(number)

    def sample(self, column: str, value: float) -> Sample:
        return Sample(column, self.contestant.name, value, self.version)

    def _answer(self) -> dict[str, float | str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contestant.name}: its process ended, code {self._process.wait()}")
        self._process.send_signal(signal.SIGSTOP)
        answer: dict[str, float | str] = json.loads(line)
        return answer


def _rounds(
    processes: Sequence[_Process], cell: Cell, rounds: int, threads: int, decode_tokens: int
) -> Iterator[Sample]:
    for i in range(rounds + 1):
        for process in processes[i % len(processes) :] + processes[: i % len(processes)]:
            print(f"\r\033[K{cell.name} {i}/{rounds} {process.contestant.name}", end="", file=sys.stderr, flush=True)
            ids = _prompt(cell.tokens, i)
            if cell.kind == "prefill":
                tokens, seconds = cell.tokens, process.ask("prefill", ids)
            else:
                if cell.tokens < _LONG or i == 0:
                    process.ask("prefill", ids)
                tokens, seconds = decode_tokens, process.ask("decode", decode_tokens)
            if i:
                yield process.sample(cell.name, tokens / seconds)
        if cell.kind == "decode" and (rate := read_bandwidth(threads)) is not None:
            yield Sample(cell.name, MEMORY, rate / 1e9, "kernel_bench")
    print("\r\033[K", end="", file=sys.stderr, flush=True)


def _starts(size: str, contestants: Sequence[Contestant], rounds: int, threads: int) -> Iterator[Sample]:
    """A fresh process each time: how long to the first token, and the peak of memory with a prompt of 2048."""
    for i in range(rounds + 1):
        for contestant in contestants:
            print(f"\r\033[Kstart {i}/{rounds} {contestant.name}", end="", file=sys.stderr, flush=True)
            _warm_cache(model_path(size, contestant.model))
            with _Process(size, contestant, threads, 4096) as process:
                seconds = process.ask("load", _prompt(8, 0))
                process.ask("prefill", _prompt(2048, 1))
                process.ask("decode", 16)
                if i:
                    yield process.sample("first token, s", seconds)
                    yield process.sample("peak memory, MiB", process.ask("memory", True) / 2**20)
    print("\r\033[K", end="", file=sys.stderr, flush=True)


def _warm_cache(model: Path) -> None:
    """Reads the model's files: on this machine they are out of the cache within seconds, with most memory free."""
    for path in model.rglob("*") if model.is_dir() else (model,):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass


def _prompt(tokens: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(_FIRST_TOKEN, _END, tokens).tolist()
