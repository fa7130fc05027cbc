"""Running and timing a design."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import hardware
from .engine import Engine
from .errors import DesignError
from .kernel_models import Kernels
from .lower import lower
from .program import ArrayProgram
from .result import TimedRun, result_of


def run(design: Any, *arguments: np.ndarray, kernels: Kernels) -> TimedRun:
    """Runs a design on host buffers; the outputs are changed in place.

    Args:
        design: What `resolve_program` returned, or what `lower` made of it.
        arguments: C-contiguous arrays in the order and of the size of `rt.sequence`.
        kernels: For each symbol a KernelModel, or a callable on numpy views.
    """
    program = design if isinstance(design, ArrayProgram) else lower(design)
    if len(arguments) != len(program.arguments):
        raise DesignError(
            "wrong number of host buffers",
            where="run",
            found=len(arguments),
            limit=len(program.arguments),
            do="Pass those of rt.sequence.",
        )
    for i, (given, declared) in enumerate(zip(arguments, program.arguments, strict=True)):
        expected = int(np.prod(declared.shape)) * declared.dtype.itemsize
        if given.nbytes != expected or not given.flags.c_contiguous:
            raise DesignError(
                "host buffer does not fit",
                where=f"argument {i}",
                found=f"{given.shape} {given.dtype}, {given.nbytes} bytes, contiguous: {given.flags.c_contiguous}",
                limit=f"{declared.shape} {declared.dtype}, {expected} bytes",
                do="Pass a contiguous array of the declared size.",
            )
    engine = Engine(program, kernels, list(arguments), functional=True)
    engine.run()
    return result_of(engine)


def time_design(
    design: Any, *, kernels: Kernels, times: hardware.Times = hardware.TIMES, fast_forward: bool = True
) -> TimedRun:
    """Times one launch of a design: no bytes move, no kernel runs; kernels need `cycles` only.

    `times` is for the question what another machine would do (`dataclasses.replace(hardware.TIMES, ddr_read=…)`).
    `fast_forward` skips rounds that repeat (steady.py); the result is the same to a millionth of a cycle a period.
    """
    program = design if isinstance(design, ArrayProgram) else lower(design)
    engine = Engine(program, kernels, None, functional=False, times=times, fast_forward=fast_forward)
    engine.run()
    return result_of(engine)
