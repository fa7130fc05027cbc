"""What a measured number has to be read with: the machine, its system, and the versions that ran."""

from __future__ import annotations

import os
import platform
from importlib import metadata

__all__ = ["machine_stamp"]

# Those that kernels here or in other runtimes choose by, as Linux spells them.
_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve")


def machine_stamp() -> dict[str, str | int | list[str]]:
    """CPU, instruction sets, cores that this process may use, memory, system, versions of onnxruntime and ours."""
    info = _cpu_info()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_model": f"{info.get('cpu family', '?')}/{info.get('model', '?')}",
        "instruction_sets": [flag for flag in _FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "onnxruntime": _version("onnxruntime"),
        "version": _version("onnxruntime-ep-ryzen-npu-gemma"),
    }


def _cpu_info() -> dict[str, str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            first = file.read().split("\n\n", 1)[0]
    except OSError:
        return {}  # the architecture has to do
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # onnxruntime has several distributions of one module
        try:
            return str(__import__(distribution).__version__)
        except ImportError:
            return "not installed"
