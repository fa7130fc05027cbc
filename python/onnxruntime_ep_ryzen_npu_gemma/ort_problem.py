"""What onnxruntime raises -> a `Problem`: its reason in one line, without the C++ around it.

onnxruntime has one exception class for each status code, no base of its own, and RuntimeError for some of them in some
versions; callers therefore catch Exception around the call of onnxruntime alone.
"""

from __future__ import annotations

import re

from .errors import Problem

__all__ = ["ort_problem"]

# Each layer of onnxruntime puts its own text before the reason; the innermost is last.
_BEFORE_REASON = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |Status Message: ")


def ort_problem(what: str, where: object, error: Exception) -> Problem:
    """The problem that an exception of onnxruntime stands for.

    Args:
        what: what could not be done.
        where: the model or the tokens that it was about.
        error: the exception.
    """
    reason = _BEFORE_REASON.split(str(error))[-1].strip() or type(error).__name__
    about_option = "option ep." in reason
    do = "change that option" if about_option else "the model may be damaged: make it again with `convert --force`"
    return Problem(what, where, reason.splitlines()[0], do)
