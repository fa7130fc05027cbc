"""cmake/onnxruntime_headers.cmake: what it takes, and what it says when it takes nothing."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[2] / "cmake/onnxruntime_headers.cmake"
RELEASE = "onnxruntime-linux-x64-9.9.9"


PROJECT = f"""
cmake_minimum_required(VERSION 3.25)
project(trial LANGUAGES NONE)
set(CMAKE_FIND_USE_CMAKE_SYSTEM_PATH OFF) # as if the system had no headers, and no apt
set(CMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH OFF)
include("{MODULE}")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A CMake project that does nothing but include the module; its path has a space and a letter of no ASCII."""
    folder = tmp_path / "prôjet un"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(PROJECT)
    return folder


def configure(project: Path, environment: dict[str, str] | None = None, **variables: object) -> tuple[int, str]:
    """Returns the exit code and the output, its white space squeezed."""
    command = ["cmake", "-S", project, "-B", project / "out", *(f"-D{k}={v}" for k, v in variables.items())]
    environment = {k: v for k, v in os.environ.items() if k != "ORT_INCLUDE_DIR"} | (environment or {})
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    return ran.returncode, re.sub(r"\s+", " ", ran.stdout + ran.stderr)


def headers(folder: Path, api: int = 27, ep: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "onnxruntime_c_api.h").write_text(f"#pragma once\n#define ORT_API_VERSION {api}\n")
    if ep:
        (folder / "onnxruntime_ep_c_api.h").write_text("#pragma once\n")
    return folder


def archive(folder: Path, api: int = 27) -> dict[str, str]:
    headers(folder / RELEASE / "include", api)
    path = folder / f"{RELEASE}.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder / RELEASE, RELEASE)
    return {"ORT_ARCHIVE_URL": path.as_uri(), "ORT_ARCHIVE_SHA256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_the_variable_wins_over_the_environment(project: Path, tmp_path: Path) -> None:
    chosen, other = headers(tmp_path / "chosen"), headers(tmp_path / "other")
    environment = {"ORT_INCLUDE_DIR": str(other)}
    assert f"onnxruntime headers: {other} " in configure(project, environment)[1]
    assert f"onnxruntime headers: {chosen} " in configure(project, environment, ORT_INCLUDE_DIR=chosen)[1]


@pytest.mark.parametrize(
    ("api", "ep", "reason"),
    [(23, True, "has API version '23', needed is 27 or newer"), (27, False, "has no onnxruntime_ep_c_api.h")],
)
def test_a_wrong_folder_is_refused_with_its_reason(
    project: Path, tmp_path: Path, api: int, ep: bool, reason: str
) -> None:
    code, output = configure(project, ORT_INCLUDE_DIR=headers(tmp_path / "given", api, ep))
    assert code != 0
    assert reason in output


def test_a_release_archive_is_unpacked_once(project: Path, tmp_path: Path) -> None:
    source = archive(tmp_path)
    code, output = configure(project, **source)
    assert code == 0, output
    assert (project / "build/onnxruntime-headers/include/onnxruntime_ep_c_api.h").is_file()
    Path(tmp_path / f"{RELEASE}.tgz").unlink()
    code, output = configure(project, **source)
    assert code == 0, output
    assert "Fetching" not in output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ORT_ARCHIVE_SHA256": "0" * 64}, f"expected {'0' * 64}"),
        ({"ORT_ARCHIVE_URL": "file:///no/such/file.tgz"}, "download failed"),
        ({}, "has API version '26', needed is 27 or newer"),
    ],
)
def test_a_failure_names_all_that_was_tried_and_what_to_do(
    project: Path, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    code, output = configure(project, **archive(tmp_path, api=26) | change)
    assert code != 0
    for part in (
        reason,
        "ORT_INCLUDE_DIR: not set",
        "system: ",
        "Debian experimental, libonnxruntime-dev: no apt-get",
        "-DORT_INCLUDE_DIR=",
    ):
        assert part in output
    assert list((project / "build/onnxruntime-headers").iterdir()) == []
