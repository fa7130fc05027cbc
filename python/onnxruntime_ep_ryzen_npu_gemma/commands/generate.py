"""`generate`: continues a text, streaming it to stdout; then what ran where, and how fast, on stderr."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.sampling import Sampler

from .arguments import add_device, add_sampling, add_saved_session, check_context, sampling

if TYPE_CHECKING:
    from onnxruntime_ep_ryzen_npu_gemma.generation import Generation
    from onnxruntime_ep_ryzen_npu_gemma.placement import Placement

__all__ = ["add_parser", "main"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command's arguments."""
    parser = subparsers.add_parser(
        "generate",
        help="continue a text",
        description="Continues a text. The text streams to stdout, the device and the speed follow on stderr. The "
        "prompt is plain text: control tokens in it have no effect.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder that `convert` wrote")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the text to continue")
    parser.add_argument(
        "-n",
        type=int,
        default=128,
        metavar="N",
        help="generate at most N tokens; 0 only runs the prompt, for --save-session (default %(default)s)",
    )
    add_sampling(parser)
    parser.add_argument(
        "--context", type=int, metavar="N", help="tokens that the cache holds (default: as many as needed)"
    )
    add_device(parser)
    add_saved_session(parser, "the prompt continues its text")
    parser.add_argument("--json", action="store_true", help="print one object with text, tokens, timings and placement")


def main(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        Problem: bad values, a folder that is not a converted model, a prompt that does not fit, no usable device.
    """
    from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
    from onnxruntime_ep_ryzen_npu_gemma.generation import Generation
    from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder
    from onnxruntime_ep_ryzen_npu_gemma.prompt import encode_plain, encode_prompt
    from onnxruntime_ep_ryzen_npu_gemma.saved_session import (
        SavedSession,
        check_can_save,
        load_session,
        model_hash,
        save_session,
    )
    from onnxruntime_ep_ryzen_npu_gemma.session import open_session
    from onnxruntime_ep_ryzen_npu_gemma.streaming import TextStream

    if args.n < (least := 0 if args.save_session else 1):
        raise Problem("there is nothing to generate", "-n", args.n, f"give {least} or more")
    if args.save_session:
        check_can_save(args.save_session)
    sampler = Sampler(sampling(args))
    start = time.perf_counter()
    folder = open_model_folder(args.model)
    tokenizer = folder.tokenizer()
    check_context(args.context, folder.context_length)
    hash_ = model_hash(folder.path) if args.load_session or args.save_session else ""
    if args.load_session:
        tokens = encode_plain(tokenizer, args.prompt)
        context = args.context or folder.context_length
    else:
        tokens = encode_prompt(tokenizer, args.prompt, folder.bos_id)
        context = _context(args.context, folder.context_length, len(tokens), args.n)
    session, placement = open_session(
        folder.model_path, device=args.device, accuracy=args.accuracy, strict=args.strict, threads=args.threads
    )
    decoder = Decoder(session, context, folder.windows)
    if args.load_session:
        tokens = load_session(args.load_session, decoder, hash_).tokens + tokens
        decoder.rewind(min(decoder.length, max(0, len(tokens) - 1)))  # the last token's logits are wanted
    prompt_ids = tokens[decoder.length :]
    generation = Generation(decoder, sampler, max_tokens=args.n, stop_ids=folder.eos_ids)
    load_seconds = time.perf_counter() - start

    stream = TextStream(tokenizer)
    pieces = []
    for token in generation.run(prompt_ids):
        pieces.append(stream.add(token))
        if not args.json:
            print(pieces[-1], end="", flush=True)
    pieces.append(stream.finish())
    if args.save_session:
        save_session(args.save_session, SavedSession(tokens + generation.tokens, None), decoder, hash_)
    if args.json:
        print(json.dumps(_result("".join(pieces), len(prompt_ids), load_seconds, generation, placement)))
    else:
        print(pieces[-1], flush=True)
        print(_summary(len(prompt_ids), generation, placement), file=sys.stderr)
    return 0


def _context(asked: int | None, model_limit: int, prompt_tokens: int, new_tokens: int) -> int:
    """How many tokens the cache shall hold: what was asked for, else what the run can need."""
    limit = asked or model_limit
    if prompt_tokens > limit:
        raise Problem("the prompt is too long", f"context of {limit} tokens", f"{prompt_tokens} tokens, <bos> included",
                      "shorten it" + (", or give a larger --context" if limit < model_limit else ""))  # fmt: skip
    return min(limit, prompt_tokens + max(1, new_tokens))


def _rate(tokens: int, seconds: float) -> float | None:
    return tokens / seconds if tokens and seconds > 0 else None


def _result(
    text: str, prompt_tokens: int, load_seconds: float, generation: Generation, placement: Placement
) -> dict[str, Any]:
    return {
        "text": text,
        "tokens": generation.tokens,
        "finish": generation.finish,
        "timings": {
            "load_seconds": load_seconds,
            "prompt_tokens": prompt_tokens,
            "prefill_seconds": generation.prefill_seconds,
            "prefill_tokens_per_second": _rate(prompt_tokens, generation.prefill_seconds),
            "decode_tokens": generation.decode_steps,
            "decode_seconds": generation.decode_seconds,
            "decode_tokens_per_second": _rate(generation.decode_steps, generation.decode_seconds),
        },
        "placement": placement.summary(),
    }


def _summary(prompt_tokens: int, generation: Generation, placement: Placement) -> str:
    def speed(tokens: int, seconds: float) -> str:
        rate = _rate(tokens, seconds)
        return f"{tokens} tokens, {seconds:.2f} s" + (f", {rate:.1f} tokens/s" if rate else "")

    ended = {"stop": "the model ended the text", "length": "-n reached", "context": "the context is full"}
    return "\n".join(
        (
            f"device   {placement.sentence()}",
            f"prompt   {speed(prompt_tokens, generation.prefill_seconds)}",
            f"decode   {speed(generation.decode_steps, generation.decode_seconds)} ({ended[generation.finish]})",
        )
    )
