"""A few lines around onnxruntime-genai that its tests share: open a folder, make a generator, take greedy tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

import onnxruntime_ep_ryzen_npu_gemma as ryzen

__all__ = ["greedy", "make", "open_on_cpu", "open_on_ep"]


def open_on_ep(folder: Path, *, accuracy: str = "exact", overlay: dict[str, Any] | None = None) -> Any:
    """A model on our execution provider; `overlay` replaces entries of its genai_config.json.

    Not the provider's default of `accuracy`: in "fast" the last bit of a sum, and so the way that a prompt is cut, can
    change a token.
    """
    ryzen.register_genai()
    config = og.Config(str(folder))
    config.set_provider_option(ryzen.get_ep_name(), "accuracy", accuracy)
    if overlay:
        config.overlay(json.dumps(overlay))
    return og.Model(config)


def open_on_cpu(folder: Path) -> Any:
    """The same folder without us: every operator as the standard ONNX inside its function."""
    config = og.Config(str(folder))
    config.clear_providers()
    return og.Model(config)


def make(model: Any, ids: Sequence[int] = (), **options: Any) -> Any:
    """A greedy generator that has run `ids`."""
    params = og.GeneratorParams(model)
    params.set_search_options(**{"do_sample": False, "max_length": 2048} | options)
    generator = og.Generator(model, params)
    if len(ids):
        generator.append_tokens(np.asarray(ids, np.int32))
    return generator


def greedy(generator: Any, count: int) -> list[int]:
    """The next tokens; fewer than `count` where the text ends."""
    tokens: list[int] = []
    while len(tokens) < count and not generator.is_done():
        generator.generate_next_token()
        tokens.append(int(generator.get_next_tokens()[0]))
    return tokens
