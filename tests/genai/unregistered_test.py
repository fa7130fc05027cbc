"""What somebody reads who opens a converted folder without having registered the execution provider."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli, get_library_path


@pytest.fixture(scope="module")
def folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unregistered") / "tiny gemma ü"
    assert cli.main(["convert", str(tiny_gguf), str(folder)]) == 0
    return folder


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Another process: what is registered once stays so."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def answer_to(message: str, folder: Path) -> str:
    """The paragraph of the folder's README.md that is about a message."""
    paragraphs = (folder / "README.md").read_text(encoding="utf-8").split("\n\n")
    return next(paragraph for paragraph in paragraphs if message in paragraph)


def test_genai_names_the_provider_and_the_folder_says_what_to_do(folder: Path) -> None:
    done = python("import sys, onnxruntime_genai as og; og.Model(sys.argv[1])", folder)
    message = "Unknown provider name 'RyzenNPUGemmaEP'"
    assert done.returncode != 0 and message in done.stderr
    assert "og.register_execution_provider_library" in answer_to(message, folder)


def test_onnxruntime_names_the_provider_and_the_folder_says_what_to_do(folder: Path) -> None:
    code = (
        "import sys, onnxruntime as o; o.InferenceSession(sys.argv[1] + '/model.onnx', providers=['RyzenNPUGemmaEP'])"
    )
    done = python(code, folder)
    message = "Unknown Provider Type: RyzenNPUGemmaEP"
    assert message in done.stdout + done.stderr
    assert "ryzen.register()" in answer_to(message, folder)


def test_the_lines_that_the_folder_gives_open_it(folder: Path) -> None:
    """In genai, registered by the program or by us or by both; in onnxruntime."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in card.splitlines() if line.startswith("    ") and "pip install" not in line]
    code = "\n".join(["import onnxruntime", *lines, "print(model.type, session.get_providers()[0])"])
    done = python(code.replace("this-folder", str(folder)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["gemma3_text", "RyzenNPUGemmaEP"]
    both = (
        "import sys, onnxruntime_genai as og, onnxruntime_ep_ryzen_npu_gemma as ryzen\n"
        "og.register_execution_provider_library(ryzen.get_ep_name(), sys.argv[2])\n"
        "ryzen.register_genai(); ryzen.register_genai()\n"
        "print(og.Model(sys.argv[1]).type)"
    )
    done = python(both, folder, get_library_path())
    assert (done.returncode, done.stdout.split()) == (0, ["gemma3_text"]), done.stderr


def test_without_the_provider_it_opens_on_the_cpu(folder: Path) -> None:
    code = (
        "import sys, json, onnxruntime_genai as og\n"
        "config = og.Config(sys.argv[1]); config.clear_providers(); model = og.Model(config)\n"
        "params = og.GeneratorParams(model); params.set_search_options(max_length=40, do_sample=False)\n"
        "generator = og.Generator(model, params); generator.append_tokens([2, 300, 301])\n"
        "generator.generate_next_token()\n"
        "print(json.dumps(generator.token_count()))"
    )
    done = python(code, folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == 4
