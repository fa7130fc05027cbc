"""onnxruntime's messages, as its versions word them, in one line."""

from __future__ import annotations

import pytest

from onnxruntime_ep_ryzen_npu_gemma.ort_problem import ort_problem


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("[ONNXRuntimeError] : 10 : INVALID_GRAPH : no such type\nsecond line", "no such type"),
        (
            "/src/ep.cc:65 CreateProvider(const OrtLogger&) Error creating execution provider: "
            "[ONNXRuntimeError] : 1 : FAIL : no NPU; use device=host\n",
            "no NPU; use device=host",
        ),
        (
            "Error in execution: Non-zero status code while running X. Status Message: the cache is full",
            "the cache is full",
        ),
        ("something else", "something else"),
        ("", "RuntimeError"),
        ("[ONNXRuntimeError] : 1 : FAIL : ", "RuntimeError"),
    ],
)
def test_the_reason_is_the_innermost_text(message, reason):
    problem = ort_problem("could not", "model.onnx", RuntimeError(message))
    assert (problem.what, problem.where, problem.found) == ("could not", "model.onnx", reason)


@pytest.mark.parametrize(
    ("message", "do"),
    [
        ("RyzenNPUGemmaEP: option ep.ryzennpugemmaep.device=npu: no NPU", "change that option"),
        ("no such type", "the model may be damaged: make it again with `convert --force`"),
    ],
)
def test_what_to_do_depends_on_what_was_refused(message, do):
    assert ort_problem("could not", "model.onnx", RuntimeError(message)).do == do
