"""Arguments that `generate` and `chat` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.sampling import GREEDY, Sampling

__all__ = ["add_device", "add_sampling", "add_saved_session", "check_context", "sampling"]


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How the next token is chosen."""
    parser.add_argument("--greedy", action="store_true", help="always take the likeliest token")
    parser.add_argument(
        "--temperature", type=float, default=Sampling.temperature, metavar="T", help="0 is greedy (default %(default)s)"
    )
    parser.add_argument(
        "--top-k", type=int, default=Sampling.top_k, metavar="K", help="0 keeps all tokens (default %(default)s)"
    )
    parser.add_argument(
        "--top-p", type=float, default=Sampling.top_p, metavar="P", help="1 keeps all (default %(default)s)"
    )
    parser.add_argument(
        "--min-p", type=float, default=Sampling.min_p, metavar="P", help="0 drops none (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="makes the choice of tokens repeatable")


def sampling(args: argparse.Namespace) -> Sampling:
    """What `add_sampling` has read.

    Raises:
        Problem: a value is outside its range.
    """
    return GREEDY if args.greedy else Sampling(args.temperature, args.top_k, args.top_p, args.min_p, args.seed)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where and how the model runs."""
    parser.add_argument("--device", choices=("auto", "npu", "host"), default="auto", help="default %(default)s")
    parser.add_argument(
        "--strict", action="store_true", help="fail if a node that we could run is left to the CPU provider"
    )
    parser.add_argument(
        "--accuracy", choices=("exact", "fast"), default="fast", help="fast: activations in 8 bits (default fast)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: onnxruntime's choice")


def add_saved_session(parser: argparse.ArgumentParser, after_loading: str) -> None:
    """Files with tokens and KV cache; `after_loading` says what the command does with one."""
    parser.add_argument(
        "--load-session", type=Path, metavar="FILE", help=f"start from a saved session: {after_loading}"
    )
    parser.add_argument("--save-session", type=Path, metavar="FILE", help="save tokens and KV cache at the end")


def check_context(asked: int | None, model_limit: int) -> None:
    """Refuses a context that the model cannot have.  Raises `Problem`."""
    if asked is not None and not 1 <= asked <= model_limit:
        raise Problem("the model cannot have this context", "--context", asked, f"give 1 to {model_limit}")
