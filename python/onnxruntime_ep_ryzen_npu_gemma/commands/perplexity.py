"""`perplexity`: how well a model predicts a text, and how far it is from the model that it was made of."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

if TYPE_CHECKING:
    from onnxruntime_ep_ryzen_npu_gemma.all_logits import AllLogitsModel
    from onnxruntime_ep_ryzen_npu_gemma.scoring import Scores

__all__ = ["add_parser", "main"]

_WINDOW = 2048


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command's arguments."""
    parser = subparsers.add_parser(
        "perplexity",
        help="measure a model's accuracy on a text",
        description=f"Perplexity over windows of {_WINDOW} tokens that do not overlap, <bos> first, all positions. "
        "With a reference also the Kullback-Leibler divergence from it, and how often both models agree. A model is a "
        "folder that `convert --logits all` wrote; or an original model (.gguf, Hugging Face folder), which runs in "
        "float32 on onnxruntime's CPU provider and needs its size in float32 in the temporary folder.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model to measure")
    parser.add_argument("text", metavar="TEXT", type=Path, help="a text file in UTF-8")
    parser.add_argument("--reference", metavar="MODEL", type=Path, help="the model to compare with")
    parser.add_argument("--windows", type=int, metavar="N", help="measure the first N windows only (default: all)")
    parser.add_argument("--device", choices=("auto", "npu", "host"), default="auto", help="default %(default)s")
    parser.add_argument(
        "--accuracy",
        choices=("exact", "fast"),
        default="fast",
        help="of the model, not of the reference, which is exact: the same folder twice tells what fast costs "
        "(default fast)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: onnxruntime's choice")
    parser.add_argument("--json", action="store_true", help="print the figures as one object")


def main(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        Problem: a model or the text cannot be used, or the models' vocabularies differ.
    """
    from tqdm import tqdm

    from onnxruntime_ep_ryzen_npu_gemma.all_logits import open_all_logits
    from onnxruntime_ep_ryzen_npu_gemma.prompt import encode_plain, read_text
    from onnxruntime_ep_ryzen_npu_gemma.scoring import Scores, summary, windows

    if args.windows is not None and args.windows < 1:
        raise Problem("there is nothing to measure", "--windows", args.windows, "give 1 or more")
    text = read_text(args.text)
    with ExitStack() as stack:

        def opened(path: Path, accuracy: str) -> AllLogitsModel:
            model = open_all_logits(path, _WINDOW, device=args.device, accuracy=accuracy, threads=args.threads)
            return stack.enter_context(model)

        model = opened(args.model, args.accuracy)
        reference = opened(args.reference, "exact") if args.reference is not None else None
        if reference is not None and reference.decoder.vocab_size != model.decoder.vocab_size:
            raise Problem("the models have different vocabularies", args.reference,
                          f"{reference.decoder.vocab_size} tokens for {model.decoder.vocab_size}",
                          "compare a model with the one that it was made of")  # fmt: skip
        size = min(one.decoder.context for one in (model, reference) if one is not None)
        ids = encode_plain(model.tokenizer, text)
        if not ids:
            raise Problem("there is nothing to measure", args.text, "an empty text", "give a longer text")
        sequences = windows(ids, model.bos_id, size)[: args.windows]
        parts: list[Scores] = []
        total = sum(len(sequence) - 1 for sequence in sequences)
        with tqdm(total=total, unit="token", desc="perplexity", disable=None) as progress:
            for sequence in sequences:
                for part in _window_scores(model, reference, sequence):
                    parts.append(part)
                    progress.update(len(part.nll))
    result = {"model": str(args.model), "text": str(args.text), "window": size, "windows": len(sequences)}
    result |= summary(Scores.concatenate(parts))
    print(json.dumps(result) if args.json else _text(result))
    return 0


def _window_scores(model: AllLogitsModel, reference: AllLogitsModel | None, ids: list[int]) -> Iterator[Scores]:
    """Runs both models side by side over one window; logits are scored as they come and not kept."""
    from onnxruntime_ep_ryzen_npu_gemma.scoring import compare_logits, score_logits

    targets = np.array(ids[1:])  # what follows each position but the last
    second_half = np.arange(len(targets)) >= len(ids) // 2
    position = 0
    references = reference.logits(ids) if reference is not None else None
    for logits_TV in model.logits(ids):
        part = slice(position, min(position + len(logits_TV), len(targets)))
        count = part.stop - part.start
        reference_TV = next(references)[:count] if references is not None else None
        position = part.stop
        if count == 0:
            continue
        if reference_TV is None:
            yield score_logits(logits_TV[:count], targets[part], second_half[part])
        else:
            yield compare_logits(logits_TV[:count], reference_TV, targets[part], second_half[part])


def _text(result: dict[str, Any]) -> str:
    result = {name: math.nan if value is None else value for name, value in result.items()}
    lines = [
        f"perplexity  {result['perplexity']:.4f} ± {result['perplexity_se']:.4f}  ({result['tokens']} tokens, "
        f"second half of the windows {result['ppl_second_half']:.4f})"
    ]
    if "kl_mean" in result:
        lines += [
            f"reference   {result['reference_perplexity']:.4f}, ln increase {result['ln_increase']:.4f} ± "
            f"{result['ln_increase_se']:.4f}",
            f"KL          mean {result['kl_mean']:.4f} ± {result['kl_mean_se']:.4f}, 99.9 % {result['kl_p999']:.4f}",
            f"top 1       {result['top1']:.4f} ± {result['top1_se']:.4f}",
            f"top 5       {result['top5']:.4f} ± {result['top5_se']:.4f}",
        ]
    return "\n".join(lines)
