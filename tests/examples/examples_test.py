"""Every example runs, and all give the same conversation: on the real base model, which a template makes talk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onnxruntime_ep_ryzen_npu_gemma import get_library_path
from tests.python.chat_script import TEMPLATE

_ROOT = Path(__file__).parents[2]
_EXAMPLES = _ROOT / "examples"
_DEMO = _ROOT / "build/demo/gemma3-270m"
_SAID = "Name a sea.\nAnd a mountain?\n"
_HEADERS = "ORT_GENAI_INCLUDE_DIR"

pytestmark = pytest.mark.skipif(
    not (_DEMO / "model.onnx").is_file(), reason=f"{_DEMO} is not there; `make demo` makes it"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "base chat"
    folder.mkdir()
    for file in _DEMO.iterdir():
        if file.name != "genai_config.json":
            (folder / file.name).symlink_to(file)
    config = json.loads((_DEMO / "genai_config.json").read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["provider_options"] = [{"RyzenNPUGemmaEP": {"accuracy": "exact"}}]
    (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> str:
    """What the command line answers; the examples end an answer after as many tokens.

    All in "exact": each keeps its caches in its own way, and in "fast" the last bit of a sum can change a token.
    """
    package = "onnxruntime_ep_ryzen_npu_gemma"
    out = run(sys.executable, "-m", package, "chat", folder, "--greedy", "--accuracy", "exact", "-n", "256", "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == 2 and all(answer["answer_tokens"] > 5 for answer in answers)
    return "".join(answer["text"] + "\n" for answer in answers)


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(os.fspath, command)), input=_SAID, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["chat_genai.py", "chat_onnxruntime.py"])
def test_python(name: str, folder: Path, answers: str, tmp_path: Path) -> None:
    text, exact = (_EXAMPLES / name).read_text(encoding="utf-8"), '[("RyzenNPUGemmaEP", {"accuracy": "exact"})]'
    (tmp_path / name).write_text(text.replace('["RyzenNPUGemmaEP"]', exact), encoding="utf-8")
    assert run(sys.executable, tmp_path / name, folder) == answers


def test_the_plain_one_is_short() -> None:
    assert len((_EXAMPLES / "chat_onnxruntime.py").read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.skipif(_HEADERS not in os.environ, reason=f"no registry has genai's headers; set {_HEADERS} to theirs")
def test_cpp(folder: Path, answers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime
    import onnxruntime_genai

    (library,) = onnxruntime_genai.__path__
    (onnxruntime_library,) = Path(onnxruntime.__path__[0], "capi").glob("libonnxruntime.so*")
    monkeypatch.setenv("ORT_LIB_PATH", str(onnxruntime_library))
    places = (f"-D{_HEADERS}={os.environ[_HEADERS]}", f"-DORT_GENAI_LIB_DIR={library}")
    run("cmake", "-S", _EXAMPLES / "cpp", "-B", tmp_path, *places)
    run("cmake", "--build", tmp_path)
    assert run(tmp_path / "chat_genai", folder, get_library_path()) == answers


def test_each_example_is_tested() -> None:
    """A new one belongs in the list above."""
    names = {str(file.relative_to(_EXAMPLES)) for file in _EXAMPLES.rglob("*") if file.is_file()}
    assert names == {"README.md", "chat_genai.py", "chat_onnxruntime.py", "cpp/CMakeLists.txt", "cpp/chat_genai.cc"}
