"""`chat` and saved sessions on the converted tiny model, and on the real one at a terminal that sends Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli
from tests.python.chat_script import TEMPLATE

pytestmark = pytest.mark.usefixtures("ep_library")

# The tiny model is nearly sure of repeating the last token; so hot, it writes a varied text.
BOLD = ("--temperature", "50", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", "3")
DEMO = Path(__file__).parents[3] / "build/demo/gemma3-270m"


@pytest.fixture(scope="module")
def chat_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a template."""
    folder = tmp_path_factory.mktemp("chat") / "tiny chat"
    shutil.copytree(tiny_model_folder, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


Chat = Callable[..., tuple[int, list[dict], str]]


@pytest.fixture
def chat(chat_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Chat:
    def run(said: str, *arguments: str) -> tuple[int, list[dict], str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        code = cli.main(["chat", str(chat_folder), "--accuracy", "exact", "--json", *arguments])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def test_answers_go_to_stdout_and_all_else_to_stderr(
    chat: Chat, chat_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, answers, _ = chat("the king\n\nthe sea\n", *BOLD, "-n", "6")
    monkeypatch.setattr(sys, "stdin", io.StringIO("the king\n\nthe sea\n"))
    assert cli.main(["chat", str(chat_folder), "--accuracy", "exact", *BOLD, "-n", "6"]) == 0
    out, err = capsys.readouterr()
    assert out == "".join(answer["text"] + "\n" for answer in answers)
    assert len(answers) == 2  # an empty line says nothing
    assert "RyzenNPUGemmaEP took" in err
    assert re.findall(r"\[(\d+) tokens in, (\d+) out, [\d.]+ s; -n reached\]", err) == [
        (str(answer["prompt_tokens"]), "6") for answer in answers
    ]


def test_the_cache_is_kept_between_turns(chat: Chat) -> None:
    code, (first, second), _ = chat("the king\nthe sea\n", *BOLD, "-n", "6")
    assert code == 0
    assert [first["finish"], first["rerun_tokens"], second["rerun_tokens"]] == ["length", 0, 0]
    assert first["context_tokens"] == first["prompt_tokens"] + 6
    assert second["context_tokens"] == first["context_tokens"] + second["prompt_tokens"] - 1 + 6  # one was not yet run


def test_a_saved_chat_goes_on_as_if_it_had_not_stopped(chat: Chat, tmp_path: Path) -> None:
    """Greedy, as a sampler's random numbers are not saved; long enough for the window of 16 to turn over."""
    _, whole, _ = chat("the king\nthe sea\nhere\n", "--greedy", "-n", "20")
    saved = str(tmp_path / "chat.kv")
    _, first, _ = chat("the king\nthe sea\n", "--greedy", "-n", "20", "--save-session", saved)
    _, second, _ = chat("here\n", "--greedy", "-n", "20", "--load-session", saved)
    parts = [*first, *second]
    for answer in (*whole, *parts):
        del answer["seconds"], answer["first_token_seconds"]
    assert parts == whole


def test_a_system_message_is_run_once_and_used_by_many(chat: Chat, tmp_path: Path) -> None:
    system = "the king of the sea is in the sea and here is the king of the sea"
    _, (fresh,), _ = chat("the sea\n", "--greedy", "-n", "5", "--system", system)
    saved = str(tmp_path / "system.kv")
    assert chat("", "--greedy", "--system", system, "--save-session", saved)[:2] == (0, [])
    for _ in range(2):
        _, (answer,), _ = chat("the sea\n", "--greedy", "-n", "5", "--load-session", saved)
        assert answer["text"] == fresh["text"]
        assert answer["prompt_tokens"] == fresh["prompt_tokens"] < 20  # the system message is not among them
        assert answer["context_tokens"] == fresh["context_tokens"] > len(system.split())


def test_a_full_context_is_said_and_the_chat_can_be_left(chat: Chat) -> None:
    code, (first, second), _ = chat("the king\nthe sea\n", "--greedy", "--context", "40")
    assert first["finish"] == "context"
    assert second["error"]["what"] == "the conversation no longer fits the context"
    assert "start a new chat" in second["error"]["do"]
    assert code == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("-n", "0"), "there is nothing to generate"),
        (("--context", "0"), "the model cannot have this context"),
        (("--system", "x", "--load-session", "none"), "a saved session has a start of its own"),
        (("--load-session", "none"), "the saved session cannot be read"),
        (("--save-session", "none/chat.kv"), "the session cannot be saved there"),
        (("--save-session", "."), "the session cannot be saved there"),
    ],
)
def test_bad_values_are_refused(chat: Chat, arguments: tuple[str, ...], what: str) -> None:
    code, (result,), _ = chat("the\n", *arguments)
    assert (code, result["error"]["what"]) == (1, what)


def test_a_base_model_is_refused(tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chat", str(tiny_model_folder)]) == 1
    assert "this model has no chat template" in capsys.readouterr().err


def test_generate_goes_on_from_a_saved_prefix(
    tiny_model_folder: Path, chat_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def generate(prompt: str, *arguments: str, folder: Path = tiny_model_folder) -> dict:
        cli.main(["generate", str(folder), "--prompt", prompt, "--greedy", "--accuracy", "exact", "--json", *arguments])
        return json.loads(capsys.readouterr().out)

    prefix, rest = " the king of the sea is in the sea and here is the king of the sea", " the sea is here"
    saved = str(tmp_path / "prefix.kv")
    whole = generate(prefix + rest, "-n", "9")
    assert generate(prefix, "-n", "0", "--save-session", saved)["tokens"] == []
    part = generate(rest, "-n", "9", "--load-session", saved)
    assert part["tokens"] == whole["tokens"]
    assert part["timings"]["prompt_tokens"] == len(rest.split())
    # An empty continuation goes on where the text stopped, a text of several tokens too.
    again = generate("", "-n", "4", "--load-session", saved)
    assert again["tokens"] == generate(prefix, "-n", "4")["tokens"]
    first = generate(prefix, "-n", "4", "--save-session", saved)
    assert (
        first["tokens"] + generate("", "-n", "5", "--load-session", saved)["tokens"]
        == (generate(prefix, "-n", "9")["tokens"])
    )
    error = generate("x", "--load-session", saved, "--context", "5")["error"]
    assert error["what"] == "the saved tokens do not fit the cache"
    assert generate(prefix, "-n", "0")["error"]["what"] == "there is nothing to generate"
    code = cli.main(["chat", str(chat_folder), "--load-session", saved])
    assert (code, "this is a text's session" in capsys.readouterr().err) == (1, True)


def test_a_session_of_another_model_is_refused(
    chat: Chat, chat_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = str(tmp_path / "chat.kv")
    chat("the king\n", "--greedy", "-n", "3", "--save-session", saved)
    other = shutil.copytree(chat_folder, tmp_path / "other")
    data = bytearray((other / "model.onnx.data").read_bytes())
    data[-5] ^= 1
    (other / "model.onnx.data").write_bytes(data)
    assert cli.main(["chat", str(other), "--load-session", saved]) == 1
    assert "the saved session is another model's" in capsys.readouterr().err


class Terminal:
    """A program at a pseudo-terminal: what it shows, and keys, of which "\x03" is Ctrl-C and "\x04" Ctrl-D."""

    def __init__(self, *command: str) -> None:
        self.shown = ""
        self._at = 0  # what is before was waited for
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
            os.execve(command[0], command, os.environ | {"TERM": "dumb"})

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, words: str) -> None:
        while (found := self.shown.find(words, self._at)) < 0:
            self._read(words)
        self._at = found + len(words)

    def wait_for_more(self, count: int) -> None:
        while len(self.shown) < self._at + count:
            self._read(f"{count} characters")
        self._at += count

    def type_until(self, keys: str, words: str) -> None:
        """A signal between the prompt and its wait for keys acts with the next key only: readline's own gap."""
        for _ in range(100):
            self.type(keys)
            if select.select([self._terminal], [], [], 0.5)[0]:
                self._read(words)
            if words in self.shown[self._at :]:
                return self.wait_for(words)
        raise AssertionError(f"no {words!r} after {self.shown[-400:]!r}")

    def exit_code(self) -> int:
        _, status = os.waitpid(self._process, 0)
        self._process = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            self.exit_code()
        os.close(self._terminal)

    def _read(self, wanted: str) -> None:
        ready, _, _ = select.select([self._terminal], [], [], 240)
        try:
            data = os.read(self._terminal, 65536) if ready else b""
        except OSError:  # the program has ended
            data = b""
        assert data, f"no {wanted!r} after {self.shown[-400:]!r}"
        self.shown += data.decode(errors="replace")


@pytest.mark.skipif(not (DEMO / "model.onnx").is_file(), reason=f"{DEMO} is not there; `make demo` makes it")
def test_control_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    """The real base model with a template, and no token that could end its answer of 32 000 tokens."""
    folder = tmp_path / "base chat"
    folder.mkdir()
    for file in DEMO.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("<end_of_turn>", ""))
    (folder / "genai_config.json").unlink()
    config = json.loads((DEMO / "genai_config.json").read_text())
    config["model"]["eos_token_id"] = [0]
    (folder / "genai_config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "onnxruntime_ep_ryzen_npu_gemma", "chat", str(folder), "-n", "32000"]
    terminal = Terminal(*command, "--seed", "1", "--temperature", "2", "--top-k", "500", "--min-p", "0")
    try:
        terminal.wait_for("> ")
        terminal.type_until("\x03", "Ctrl-D ends the chat.")
        for said in ("Tell me a long story", "And then?"):
            terminal.wait_for("> ")
            terminal.type(said + "\n")
            terminal.wait_for(said + "\r\n")
            for _ in range(3):
                terminal.wait_for_more(40)  # it streams
            terminal.type("\x03")
            terminal.wait_for("; interrupted]")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.exit_code() == 0
    finally:
        terminal.close()
