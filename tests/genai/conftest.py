"""The models of the genai tests, opened once: genai's own onnxruntime keeps a provider once it is registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.genai import generating

og = pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is in the extra [test]")


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    folder = Path(__file__).parents[2] / "build/demo/gemma3-270m"
    if not (folder / "genai_config.json").is_file():
        pytest.skip(f"{folder} is not there; `make demo` makes it")
    return folder


@pytest.fixture(scope="session")
def on_ep(demo_folder: Path) -> Any:
    """Gemma3-270M on our execution provider, its folder as `convert` left it."""
    return generating.open_on_ep(demo_folder)


@pytest.fixture(scope="session")
def tokenizer(on_ep: Any) -> Any:
    """genai's own, which puts <bos> in front only when it is told to."""
    tokenizer = og.Tokenizer(on_ep)
    tokenizer.update_options(add_special_tokens="true")
    return tokenizer
