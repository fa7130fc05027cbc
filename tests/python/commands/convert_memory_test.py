"""Memory that a conversion takes: one tensor at a time, whatever the size of the model.  Slow: `make test-slow`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.random_model import write_random_model

pytestmark = pytest.mark.slow

# The largest tensor is the embedding, in float32: 1.2 GB in 1B, 2.7 GB in 4B; its blocks in 8 bits are 0.3 and 0.7 GB.
LIMITS_MB = {"1b": 2500, "4b": 4000}
FREE_DISK = {"1b": 4 << 30, "4b": 13 << 30}


@pytest.mark.parametrize("size", LIMITS_MB)
def test_peak_memory(size: str, tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    if (free := disk.f_bavail * disk.f_frsize) < FREE_DISK[size]:
        pytest.skip(f"{free >> 30} GiB of disk are free, {FREE_DISK[size] >> 30} are needed")
    write_random_model(size, tmp_path / "hf")
    command = [sys.executable, "-m", "onnxruntime_ep_ryzen_npu_gemma", "convert", tmp_path / "hf", tmp_path / "out"]
    process = subprocess.Popen([*command, "--quantizer", "rtn"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    peak_mb = usage.ru_maxrss * 1024 / 1e6
    print(f"{size}: {peak_mb:.0f} MB")
    assert peak_mb <= LIMITS_MB[size]
