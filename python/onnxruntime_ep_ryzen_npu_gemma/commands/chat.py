"""`chat`: a conversation in the terminal that keeps its KV cache; answers stream to stdout, all else goes to stderr.

Each line of stdin is a message. Ctrl-C ends an answer where it is, twice the program; Ctrl-D ends the chat.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.sampling import Sampler

from .arguments import add_device, add_sampling, add_saved_session, check_context, sampling

if TYPE_CHECKING:
    from onnxruntime_ep_ryzen_npu_gemma.conversation import Conversation

__all__ = ["add_parser", "main"]

_ENDED = {"length": "-n reached", "context": "the context is full", "interrupted": "interrupted"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command's arguments."""
    parser = subparsers.add_parser(
        "chat",
        help="talk to a model",
        description="Talks to a model that has a chat template. Each line is a message; answers stream to stdout. "
        "Ctrl-C stops an answer, Ctrl-D ends the chat. Only new tokens are run: the KV cache is kept between turns.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder that `convert` wrote")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the first message")
    parser.add_argument(
        "-n", type=int, default=1024, metavar="N", help="at most N tokens an answer (default %(default)s)"
    )
    add_sampling(parser)
    parser.add_argument("--context", type=int, metavar="N", help="tokens that the cache holds (default: the model's)")
    add_device(parser)
    add_saved_session(parser, "the chat goes on")
    parser.add_argument("--json", action="store_true", help="print one object for each answer")


def main(args: argparse.Namespace) -> int:
    """Runs the command; returns 1 if the last message was refused.

    Raises:
        Problem: bad values, a folder that is not a converted chat model, a saved session that cannot be used.
    """
    from onnxruntime_ep_ryzen_npu_gemma.chat_template import open_chat_template
    from onnxruntime_ep_ryzen_npu_gemma.conversation import Conversation
    from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
    from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder
    from onnxruntime_ep_ryzen_npu_gemma.saved_session import (
        SavedSession,
        check_can_save,
        load_session,
        model_hash,
        save_session,
    )
    from onnxruntime_ep_ryzen_npu_gemma.session import open_session

    if args.n < 1:
        raise Problem("there is nothing to generate", "-n", args.n, "give 1 or more")
    if args.system is not None and args.load_session:
        raise Problem("a saved session has a start of its own", "--system", args.system[:80], "leave one of them out")
    if args.save_session:
        check_can_save(args.save_session)
    sampler = Sampler(sampling(args))
    folder = open_model_folder(args.model)
    check_context(args.context, folder.context_length)
    tokenizer = folder.tokenizer()
    template = open_chat_template(folder.path, tokenizer)
    hash_ = model_hash(folder.path) if args.load_session or args.save_session else ""
    session, placement = open_session(
        folder.model_path, device=args.device, accuracy=args.accuracy, strict=args.strict, threads=args.threads
    )
    decoder = Decoder(session, args.context or folder.context_length, folder.windows)
    conversation = Conversation(decoder, tokenizer, template, folder.eos_ids)
    if args.load_session:
        saved = load_session(args.load_session, decoder, hash_)
        if saved.messages is None:
            raise Problem("this is a text's session, not a chat's", args.load_session, "no messages",
                          "go on with `generate --load-session`")  # fmt: skip
        conversation.resume(saved.messages, saved.tokens)
    elif args.system is not None:
        conversation.set_system(args.system)
    print(f"device   {placement.sentence()}", file=sys.stderr)
    code = 0
    for text in _messages():
        try:
            _answer(conversation, text, sampler, args)
            code = 0
        except Problem as problem:
            _report(problem, args.json)
            code = 1
    if args.save_session:
        saved = SavedSession(conversation.tokens, conversation.messages)
        save_session(args.save_session, saved, decoder, hash_)
    return code


def _messages() -> Iterator[str]:
    """Lines of stdin that say something; at a terminal with a prompt and its line editing."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is no text is refused as a message
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        return
    import readline  # noqa: F401  input() edits with it

    while True:
        try:
            line = input("> ")
        except KeyboardInterrupt:
            print("\nCtrl-D ends the chat.", file=sys.stderr)
        except EOFError:
            print(file=sys.stderr)
            return
        else:
            if line.strip():
                yield line


def _answer(conversation: Conversation, text: str, sampler: Sampler, args: argparse.Namespace) -> None:
    start = time.perf_counter()
    first = 0.0
    pieces = []
    with _Interrupt() as interrupt:
        for piece in conversation.say(text, sampler, args.n, stopped=lambda: interrupt.asked):
            first = first or time.perf_counter() - start
            pieces.append(piece)
            if not args.json:
                print(piece, end="", flush=True)
    seconds = time.perf_counter() - start
    if args.json:
        result = {
            "text": "".join(pieces),
            "finish": conversation.finish,
            "prompt_tokens": conversation.prompt_tokens,
            "rerun_tokens": conversation.rerun,
            "answer_tokens": conversation.answer_tokens,
            "context_tokens": len(conversation.tokens),
            "first_token_seconds": first,
            "seconds": seconds,
        }
        print(json.dumps(result), flush=True)
        return
    print(flush=True)
    ended = _ENDED.get(conversation.finish)
    again = f", {conversation.rerun} of them again" if conversation.rerun else ""
    print(
        f"[{conversation.prompt_tokens} tokens in{again}, {conversation.answer_tokens} out, {seconds:.1f} s"
        + (f"; {ended}]" if ended else "]"),
        file=sys.stderr,
    )


def _report(problem: Problem, as_json: bool) -> None:
    if as_json:
        print(json.dumps(problem.to_json()), flush=True)
    else:
        print(f"ryzen-npu-gemma: {problem}", file=sys.stderr)


class _Interrupt:
    """While it is entered, the first Ctrl-C is only noted; the next one acts as ever."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> _Interrupt:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)
