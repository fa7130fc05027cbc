"""Makes models and measures them side by side, window after window; what is done stays in a folder for each model.

    build/accuracy/<name>/made_of      what the model came from: it is made again when that changes
    build/accuracy/<name>/model*       the model
    build/accuracy/<name>/scores-*     of one window, with hashes of weights and text; measured once

One run of the float32 reference serves all models that lack a window, so a table costs one reference, not one a line.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from onnxruntime_ep_ryzen_npu_gemma.all_logits import open_all_logits
from onnxruntime_ep_ryzen_npu_gemma.prompt import encode_plain
from onnxruntime_ep_ryzen_npu_gemma.scoring import Scores, compare_logits, windows
from tests.bench.accuracy.models import WINDOW, LogitsModel, Model, Weights

__all__ = ["Workshop"]

_HASH = "weights.sha256"
_SUFFIX = {"LlamaCppModel": ".gguf"}


class Workshop:
    """The folder where models are made and measured."""

    def __init__(self, folder: Path, weights: Weights, text: Path, made_of: Callable[[Model], str]) -> None:
        """Takes what models are made of, the text to measure on, and what tells whether a model is still the same."""
        self._folder, self._weights, self._text = folder, weights, text
        self._made_of = made_of
        self._text_hash = _hash(text)

    def path(self, model: Model) -> Path:
        """Where the model is."""
        return self._home(model) / ("model" + _SUFFIX.get(type(model).__name__, ""))

    def make(self, model: Model) -> None:
        """Makes the model unless it is there, made of the same."""
        home, made_of = self._home(model), self._made_of(model)
        stamp, path = home / "made_of", self.path(model)
        if self.made(model):
            return
        stamp.unlink(missing_ok=True)
        (home / _HASH).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        home.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        model.make(self._weights, path)
        tqdm.write(f"{model.name}: made in {time.monotonic() - start:.0f} s", file=sys.stderr)
        (home / _HASH).write_text(_hash(*model.weight_files(path)), encoding="utf-8")
        stamp.write_text(made_of, encoding="utf-8")

    def made(self, model: Model) -> bool:
        """Whether `make` has nothing to do."""
        stamp = self._home(model) / "made_of"
        return stamp.is_file() and stamp.read_text(encoding="utf-8") == self._made_of(model)

    def scores(self, model: Model, count: int) -> Scores | None:
        """The scores of the first windows, or None if some are missing."""
        files = [self._scores_file(model, i) for i in range(count)]
        if not all(file.is_file() for file in files):
            return None
        parts = []
        for file in files:
            with np.load(file) as arrays:
                parts.append(Scores(**arrays))
        return Scores.concatenate(parts)

    def measure(self, models: Sequence[Model], count: int, deadline: float) -> None:
        """Measures what is missing of the first windows, until the deadline (time.monotonic)."""
        missing = {i: [m for m in models if not self._scores_file(m, i).is_file()] for i in range(count)}
        if not any(missing.values()):
            return
        with ExitStack() as stack:
            reference = stack.enter_context(
                open_all_logits(self._weights.float32, WINDOW, device="host", accuracy="exact", threads=None)
            )
            ids = encode_plain(reference.tokenizer, self._text.read_text(encoding="utf-8"))
            sequences = windows(ids, reference.bos_id, WINDOW)
            opened: dict[str, LogitsModel] = {}
            for i, lacking in tqdm(missing.items(), unit="window", desc="measure", disable=None):
                if time.monotonic() > deadline:
                    return
                for model in lacking:
                    if model.name not in opened:
                        opened[model.name] = stack.enter_context(model.open(self.path(model)))
                if lacking:
                    results = _side_by_side([opened[m.name] for m in lacking], reference, sequences[i])
                    for model, scores in zip(lacking, results, strict=True):
                        self._write(model, i, scores)

    def _home(self, model: Model) -> Path:
        return self._folder / "".join(c if c.isalnum() else "-" for c in model.name)

    def _scores_file(self, model: Model, window: int) -> Path:
        weights = (self._home(model) / _HASH).read_text(encoding="utf-8")
        return self._home(model) / f"scores-{weights}-{self._text_hash}-{window}.npz"

    def _write(self, model: Model, window: int, scores: Scores) -> None:
        file = self._scores_file(model, window)
        part = file.with_suffix(".part.npz")
        np.savez(part, **{field.name: getattr(scores, field.name) for field in fields(Scores)})
        part.rename(file)


def _side_by_side(models: Sequence[LogitsModel], reference: LogitsModel, ids: list[int]) -> list[Scores]:
    targets = np.array(ids[1:])  # what follows each position but the last
    second_half = np.arange(len(targets)) >= len(ids) // 2
    parts: list[list[Scores]] = [[] for _ in models]
    position = 0
    streams = [model.logits(ids) for model in models]
    for reference_TV in reference.logits(ids):
        part = slice(position, min(position + len(reference_TV), len(targets)))
        position = part.stop
        count = part.stop - part.start
        for stream, done in zip(streams, parts, strict=True):  # one model computes at a time
            logits_TV = next(stream)
            done.append(compare_logits(logits_TV[:count], reference_TV[:count], targets[part], second_half[part]))
    return [Scores.concatenate(done) for done in parts]


def _hash(*files: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:16]
