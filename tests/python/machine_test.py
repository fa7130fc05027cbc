"""The machine stamp: what it says of the machine that the test runs on, and that it goes into JSON."""

from __future__ import annotations

import json
import os

import onnxruntime

from onnxruntime_ep_ryzen_npu_gemma.machine import machine_stamp


def test_stamp_names_this_machine() -> None:
    stamp = json.loads(json.dumps(machine_stamp()))
    assert stamp["cpu"]
    assert 1 <= stamp["cores"] <= (os.cpu_count() or 1)
    assert stamp["memory_bytes"] > 1 << 28
    assert stamp["onnxruntime"] == onnxruntime.__version__
    assert stamp["version"][0].isdigit()


def test_instruction_sets_are_those_of_proc_cpuinfo() -> None:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        words = set(file.read().split())
    assert set(machine_stamp()["instruction_sets"]) <= words
    assert ("avx2" in words) == ("avx2" in machine_stamp()["instruction_sets"])
