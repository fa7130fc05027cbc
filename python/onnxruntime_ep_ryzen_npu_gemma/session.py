"""Makes a session of a converted model on our execution provider, and learns what runs where."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import Problem
from .ort_problem import ort_problem
from .placement import Placement, read_placement
from .registration import session_options

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["open_session"]

_MAX_THREADS = 1024  # onnxruntime would start any number, and the machine would stand still


def open_session(
    model: str | os.PathLike[str],
    *,
    device: str = "auto",
    strict: bool = False,
    accuracy: str = "fast",
    threads: int | None = None,
) -> tuple[onnxruntime.InferenceSession, Placement]:
    """Makes a session with our execution provider, onnxruntime's CPU provider for what is left.

    Args:
        model: the .onnx file.
        device: "npu", "host", or "auto" for the NPU where there is one.
        strict: fail if a node that we could run would be left to the CPU provider.
        accuracy: "fast", matrix products with activations in 8 bits; or "exact", in float32.
        threads: threads inside an operator; None for onnxruntime's choice.

    Returns:
        The session and its placement; nothing is in the placement when onnxruntime left our provider out.

    Raises:
        Problem: the provider cannot be used (see `session_options`), `threads` is not positive, or onnxruntime or
            the provider refuses the model or an option.
    """
    if threads is not None and threads < 1:
        raise Problem("no thread could work", "threads", threads, "give 1 or more")
    if threads is not None and threads > _MAX_THREADS:
        raise Problem("too many threads", "threads", threads, f"give {_MAX_THREADS} or fewer")
    with tempfile.TemporaryDirectory(prefix="ryzen-npu-gemma-") as folder:
        report = Path(folder) / "placement.tsv"
        options = session_options(device=device, strict=strict, accuracy=accuracy, placement_report=report)
        import onnxruntime as ort

        options.log_severity_level = 4  # its errors are raised too, and what its warnings guess our report knows
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            session = ort.InferenceSession(os.fspath(model), options, enable_fallback=0)
        except Exception as error:
            raise ort_problem("onnxruntime could not make a session", os.fspath(model), error) from error
        return session, read_placement(report)
