"""IRON: dataflow designs for the Ryzen AI NPU (the part of `aie.iron` that the simulator runs)."""

from .buffer import Buffer
from .dataflow import ObjectFifo
from .dtype import dtype_to_str, str_to_dtype
from .kernel import ExternalFunction, Kernel
from .program import Program
from .runtime import Runtime
from .worker import Worker, WorkerRuntimeBarrier

__all__ = [
    "Buffer",
    "ExternalFunction",
    "Kernel",
    "ObjectFifo",
    "Program",
    "Runtime",
    "Worker",
    "WorkerRuntimeBarrier",
    "dtype_to_str",
    "str_to_dtype",
]
