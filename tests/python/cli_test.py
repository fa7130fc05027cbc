"""The command line's frame: exit codes, errors as one line or as JSON, and a start that loads nothing heavy."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli
from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

PYTHON_M = [sys.executable, "-m", "onnxruntime_ep_ryzen_npu_gemma"]


@pytest.fixture
def command(monkeypatch):
    """Replaces the commands by one, `do`, that raises or returns what `set` was given."""

    class Do:
        outcome: object = 0

        def set(self, outcome):
            self.outcome = outcome

        def add_parser(self, subparsers):
            subparsers.add_parser("do").add_argument("--json", action="store_true")

        def main(self, args: argparse.Namespace) -> int:
            if isinstance(self.outcome, BaseException):
                raise self.outcome
            return self.outcome

    do = Do()
    monkeypatch.setattr(cli, "_COMMANDS", {"do": do})
    return do


def test_a_command_gives_the_exit_code(command):
    assert cli.main(["do"]) == 0
    command.set(1)
    assert cli.main(["do"]) == 1


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["do", "--unknown"]])
def test_wrong_usage_is_exit_code_2(command, arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "usage: ryzen-npu-gemma" in capsys.readouterr().err


FAILURES = [
    (Problem("w", "here", "f", "do this"), {"what": "w", "where": "here", "found": "f", "do": "do this"}),
    (PermissionError(13, "Permission denied", "/a/b"), {"where": "/a/b", "found": "Permission denied"}),
    (OSError(28, "No space left on device"), {"found": "No space left on device"}),
]


@pytest.mark.parametrize(("error", "parts"), FAILURES)
def test_a_failure_is_one_line_on_stderr(command, error, parts, capsys):
    command.set(error)
    assert cli.main(["do"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ryzen-npu-gemma: ")
    assert err.count("\n") == 1
    assert all(part in err for part in parts.values())


@pytest.mark.parametrize(("error", "parts"), FAILURES)
def test_a_failure_with_json_is_an_object_on_stdout(command, error, parts, capsys):
    command.set(error)
    assert cli.main(["do", "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    problem = json.loads(out)
    assert set(problem) == {"error"}
    assert set(problem["error"]) == {"what", "where", "found", "do"}
    assert parts.items() <= problem["error"].items()


def test_an_interrupt_is_quiet(command, capsys):
    command.set(KeyboardInterrupt())
    assert cli.main(["do"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_fault_of_ours_keeps_its_traceback(command):
    command.set(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["do"])


def test_starting_loads_nothing_heavy():
    code = (
        "import sys; from onnxruntime_ep_ryzen_npu_gemma import cli; cli._parser(); "
        "print({'onnxruntime', 'onnx_ir', 'onnxscript', 'tokenizers', 'gguf', 'tqdm'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_python_m_shows_the_commands():
    help_ = subprocess.check_output([*PYTHON_M, "--help"], text=True)
    assert all(name in help_ for name in ("usage: ryzen-npu-gemma", "convert", "generate", "explain"))


def test_a_reader_that_leaves_ends_the_command_quietly():
    code = (
        "import sys, types; from onnxruntime_ep_ryzen_npu_gemma import cli; "
        "do = types.SimpleNamespace(add_parser=lambda s: s.add_parser('do'), main=lambda args: print('text') or 0); "
        "cli._COMMANDS = {'do': do}; sys.exit(cli.main(['do']))"
    )
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (process.returncode, process.stderr) == (1, "")
