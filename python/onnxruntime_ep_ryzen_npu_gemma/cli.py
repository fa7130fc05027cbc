"""`ryzen-npu-gemma`: finds the command, runs it, and turns what went wrong into one line.

Results go to stdout and progress to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. With `--json`
a failure is the object {"error": {"what", "where", "found", "do"}} on stdout.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from .commands import bench, chat, convert, explain, generate, perplexity, simulate
from .errors import Problem

__all__ = ["main"]

_COMMANDS = {
    "convert": convert,
    "generate": generate,
    "chat": chat,
    "bench": bench,
    "explain": explain,
    "perplexity": perplexity,
    "simulate": simulate,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code.

    Args:
        argv: the arguments after the program's name; None takes them from the process.

    Raises:
        SystemExit: wrong usage (2), or help or the version was asked for (0).
    """
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows "?"
    try:
        code: int = _COMMANDS[args.command].main(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of stdout left; the interpreter must not flush into it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        problem = _as_problem(error)
        if problem is None:
            raise
        if getattr(args, "json", False):
            print(json.dumps(problem.to_json()))
        else:
            print(f"ryzen-npu-gemma: {problem}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ryzen-npu-gemma",
        description="Gemma3 in 4-bit on the AMD Ryzen AI NPU, and on the CPU without one, with stock onnxruntime.",
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in _COMMANDS.values():
        command.add_parser(subparsers)
    return parser


class _ShowVersion(argparse.Action):
    """Reads the version only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print(parser.prog, metadata.version("onnxruntime-ep-ryzen-npu-gemma"))
        parser.exit()


def _as_problem(error: Exception) -> Problem | None:
    """What to tell the user; None for a fault of ours, which keeps its traceback."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError):
        return Problem(
            "the system refused a file",
            error.filename or "unnamed",
            error.strerror or error,
            "check it, try again",
        )
    return None
