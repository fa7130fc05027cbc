"""What rounding a prompt's matrix products to 8 bits costs, plain and rotated; prints a table of docs/accuracy.md.

    python -m tests.bench.accuracy.rotation [MODEL]        # the demo's, after `make demo`

A simulation in torch, so that ways which no kernel has can be compared: the activations and weights of all projections
are rotated, rounded and multiplied in float32; attention and head stay float32. The truth is the same model unrounded.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tests.bench import texts
from tests.bench.roofline import markdown_table
from tests.models import hf_truth

_ROOT = Path(__file__).parents[3]
_WHOLE_ROW = 1 << 30
_POSITIONS, _SKIPPED = 600, 500  # tokens of each text; what comes before them is titles


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Columns that are rotated together, and that share a scale; 0 is no rotation, or no rounding."""

    rotated: int
    activations: int
    weights: int
    sets: int = 1  # of interleaved columns, rotated apart: 2 is what kernels/quantize_rotated_rows does


_ROUNDINGS = (
    Rounding(0, 32, 0),
    Rounding(0, 64, 64),
    Rounding(0, 128, 0),
    Rounding(0, 128, 128),
    Rounding(64, 128, 0, sets=2),
    Rounding(64, 128, 128, sets=2),
    Rounding(64, 128, _WHOLE_ROW, sets=2),
    Rounding(64, 64, 64),
    Rounding(128, 128, 128),
)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=_ROOT / "build/demo/gemma3-270m")
    model = parser.parse_args().model
    hf = hf_truth.load(model / "model.onnx")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    projections = [m for name, m in hf.named_modules() if isinstance(m, torch.nn.Linear) and name != "lm_head"]
    exact = [projection.weight.data for projection in projections]
    divergences = dict.fromkeys(_ROUNDINGS, 0.0)
    prompts = [_prompt(tokenizer, path) for path in (texts.persuasion(), texts.devil())]
    for ids in prompts:
        truth = torch.log_softmax(hf(ids).logits[0], -1)
        for rounding in _ROUNDINGS:
            for projection, weight in zip(projections, exact, strict=True):
                projection.weight.data = _rounded(_rotated(weight, rounding), rounding.weights)
            hooks = [projection.register_forward_pre_hook(_rounder(rounding)) for projection in projections]
            other = torch.log_softmax(hf(ids).logits[0], -1)
            divergences[rounding] += (truth.exp() * (truth - other)).sum().item() / (len(prompts) * ids.shape[1])
            for hook in hooks:
                hook.remove()
        for projection, weight in zip(projections, exact, strict=True):
            projection.weight.data = weight
    rows: list[tuple[str, ...]] = [
        (_rotation(r), str(r.activations), _weights(r), f"{kl:.4f}") for r, kl in divergences.items()
    ]
    print(markdown_table(("rotated", "activations share a scale", "weights again in 8 bits", "KL"), rows))
    return 0


def _prompt(tokenizer: Tokenizer, path: Path) -> torch.Tensor:
    ids = tokenizer.encode(path.read_text(encoding="utf-8", errors="replace")[:40_000], add_special_tokens=False).ids
    return torch.tensor([[2, *ids[_SKIPPED : _SKIPPED + _POSITIONS]]])


def _rounder(rounding: Rounding) -> Callable[[torch.nn.Module, tuple[Any, ...]], tuple[torch.Tensor]]:
    return lambda _, inputs: (_rounded(_rotated(inputs[0], rounding), rounding.activations),)


def _rotated(x: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """Columns 0..3, 8..11, … are one of two sets, 4..7, 12..15, … the other."""
    if not rounding.rotated:
        return x
    n, sets = rounding.rotated, rounding.sets
    by_set = x.reshape(-1, n // 4, sets, 4).transpose(1, 2).reshape(-1, sets, n) @ _hadamard(n)
    return by_set.reshape(-1, sets, n // 4, 4).transpose(1, 2).reshape(x.shape)


def _hadamard(n: int) -> torch.Tensor:
    matrix: torch.Tensor = torch.ones(1, 1)
    while len(matrix) < n:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    matrix /= n**0.5
    return matrix


def _rounded(x: torch.Tensor, columns: int) -> torch.Tensor:
    if not columns:
        return x
    columns = min(columns, x.shape[-1])
    groups = x.reshape(*x.shape[:-1], -1, columns)
    scale = (groups.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-30)
    rounded: torch.Tensor = (groups / scale).round() * scale
    return rounded.reshape(x.shape)


def _rotation(rounding: Rounding) -> str:
    return (
        "no"
        if not rounding.rotated
        else f"{rounding.sets} × {rounding.rotated}"
        if rounding.sets > 1
        else str(rounding.rotated)
    )


def _weights(rounding: Rounding) -> str:
    return {0: "no", _WHOLE_ROW: "whole row"}.get(rounding.weights, str(rounding.weights))


if __name__ == "__main__":
    with torch.no_grad():
        sys.exit(main())
