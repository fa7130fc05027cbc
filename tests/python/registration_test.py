from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import onnxruntime_ep_ryzen_npu_gemma as package
from onnxruntime_ep_ryzen_npu_gemma import registration
from onnxruntime_ep_ryzen_npu_gemma.errors import Problem


class FakeOnnxruntime(types.ModuleType):
    """As much of onnxruntime as registration uses; one device once the library is registered."""

    def __init__(self, version: str) -> None:
        super().__init__("onnxruntime")
        self.__version__ = version
        self.__file__ = "/somewhere/onnxruntime/__init__.py"
        self.registered: list[tuple[str, str]] = []

    def get_ep_devices(self) -> list[types.SimpleNamespace]:
        names = ["CPUExecutionProvider", *(name for name, _ in self.registered)]
        return [types.SimpleNamespace(ep_name=name) for name in names]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append((name, path))

    class SessionOptions:
        def add_provider_for_devices(self, devices: list[types.SimpleNamespace], options: dict[str, str]) -> None:
            self.chosen = ([device.ep_name for device in devices], options)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two folders, the library in the second, as an editable install has it."""
    folders = [tmp_path / "sources", tmp_path / "sites päckages"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(registration, "__path__", [str(folder) for folder in folders])
    path = folders[1] / "libonnxruntime_ep_ryzen_npu_gemma.so"
    path.touch()
    return path


@pytest.fixture
def fake_ort(monkeypatch: pytest.MonkeyPatch) -> FakeOnnxruntime:
    fake = FakeOnnxruntime("1.25.1")
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    return fake


def test_names() -> None:
    assert package.get_ep_name() == "RyzenNPUGemmaEP"
    assert package.get_ep_names() == ["RyzenNPUGemmaEP"]


def test_importing_the_package_imports_neither_onnxruntime_nor_the_tools() -> None:
    code = (
        "import sys, onnxruntime_ep_ryzen_npu_gemma\n"
        "print([m for m in ('onnxruntime', 'numpy', 'onnx_ir', 'onnxscript', 'gguf', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_library_path_is_found_in_any_folder_of_the_package(library: Path) -> None:
    assert package.get_library_path() == str(library)


def test_library_path_is_absolute_from_any_folder(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(library.parent)
    monkeypatch.setattr(registration, "__path__", ["."])
    assert package.get_library_path() == str(library)


def test_missing_library_says_where_it_was_looked_for(library: Path) -> None:
    library.unlink()
    with pytest.raises(Problem) as problem:
        package.get_library_path()
    assert problem.value.where == library.name
    assert str(library.parent) in problem.value.found
    assert "make setup" in problem.value.do


def test_register_twice_registers_once(library: Path, fake_ort: FakeOnnxruntime) -> None:
    package.register()
    package.register()
    assert fake_ort.registered == [("RyzenNPUGemmaEP", str(library))]


def test_session_options_hand_over_the_options_as_text(library: Path, fake_ort: FakeOnnxruntime) -> None:
    options = package.session_options(device="host", strict=True, threads=2)
    assert options.chosen == (["RyzenNPUGemmaEP"], {"device": "host", "strict": "1", "threads": "2"})


@pytest.mark.parametrize("version", ["1.9.0", "1.23.2", "0.9"])
def test_too_old_an_onnxruntime_is_named(library: Path, fake_ort: FakeOnnxruntime, version: str) -> None:
    fake_ort.__version__ = version
    with pytest.raises(Problem) as problem:
        package.register()
    assert version in problem.value.found
    assert "1.25" in problem.value.do
    assert fake_ort.registered == []


@pytest.mark.parametrize("version", ["1.24.4", "1.32.0", "2.0.0", "1.26.0.dev20260801"])
def test_new_enough_an_onnxruntime_is_taken(library: Path, fake_ort: FakeOnnxruntime, version: str) -> None:
    fake_ort.__version__ = version
    package.register()
    assert len(fake_ort.registered) == 1


def test_no_onnxruntime(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Problem, match="pip install"):
        package.register()


def test_a_refused_library_is_reported_with_the_reason_and_the_version(
    library: Path, fake_ort: FakeOnnxruntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, path: str) -> None:
        raise RuntimeError("does not support ORT API version 27")

    monkeypatch.setattr(fake_ort, "register_execution_provider_library", refuse)
    with pytest.raises(Problem) as problem:
        package.register()
    assert problem.value.where == str(library)
    assert "1.25.1" in problem.value.found
    assert "does not support ORT API version 27" in problem.value.found


def built_library() -> str | None:
    try:
        return package.get_library_path()
    except Problem:
        return None


needs_library = pytest.mark.skipif(built_library() is None, reason="the EP library is not built: make setup")


@needs_library
def test_the_real_library_is_one_device_from_any_folder(tmp_path: Path) -> None:
    """In a process of its own: a registration cannot be taken back while sessions of other tests live."""
    code = (
        "import onnxruntime_ep_ryzen_npu_gemma as ep, onnxruntime as ort\n"
        "ep.register(); ep.register(); ep.session_options(device='host')\n"
        "print([d.ep_name for d in ort.get_ep_devices()].count(ep.get_ep_name()), ep.get_ep_name() in "
        "ort.get_available_providers())"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "1 True\n"), ran.stderr


@needs_library
def test_the_real_library_links_no_onnxruntime_and_exports_two_functions() -> None:
    def run(*command: str) -> str:
        environment = os.environ | {"LC_ALL": "C"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    library = package.get_library_path()
    assert "onnxruntime" not in "".join(line for line in run("readelf", "-d", library).splitlines() if "NEEDED" in line)
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    assert exported == {"CreateEpFactories", "ReleaseEpFactory"}


class FakeGenai(types.ModuleType):
    """onnxruntime-genai, which refuses a name that it has."""

    def __init__(self, refusal: str = "") -> None:
        super().__init__("onnxruntime_genai")
        self.registered: list[tuple[str, str]] = []
        self.refusal = refusal

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if self.refusal:
            raise RuntimeError(self.refusal)
        self.registered.append((name, path))


@pytest.fixture
def fresh_genai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "_registered_with_genai", False)


@pytest.mark.usefixtures("fresh_genai")
def test_genai_is_given_the_library_once(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genai = FakeGenai()
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", genai)
    package.register_genai()
    package.register_genai()
    assert genai.registered == [("RyzenNPUGemmaEP", str(library))]


@pytest.mark.usefixtures("fresh_genai", "library")
def test_what_genai_refuses_is_one_line_and_what_it_has_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    with pytest.raises(Problem, match=r"onnxruntime-genai cannot be imported.*pip install"):
        package.register_genai()
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", FakeGenai("needs API 24"))
    with pytest.raises(Problem, match=r"refused the execution provider library: .*needs API 24"):
        package.register_genai()
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", FakeGenai("library RyzenNPUGemmaEP is already registered"))
    package.register_genai()
