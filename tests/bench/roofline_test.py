"""The bytes and operations of docs/performance.md, against the tensors that such a model has."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from onnxruntime_ep_ryzen_npu_gemma.sources.hf_config import read_config
from onnxruntime_ep_ryzen_npu_gemma.sources.source import tensor_shapes
from tests.bench.random_model import SIZES, config
from tests.bench.roofline import Work


@pytest.mark.parametrize("size", SIZES)
def test_weights_are_those_of_the_model(size: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config(size)), encoding="utf-8")
    parsed, _ = read_config(tmp_path)
    matrices = [shape for shape in tensor_shapes(parsed).values() if len(shape) == 2]
    work = Work(size)
    assert work.body + work.head == sum(map(math.prod, matrices))
    packed = sum(N / 16 * (64 + K / 64 * 576) for N, K in matrices)  # strips of kernels/matmul_nbits/matmul_nbits.h
    assert work.weight_bytes == {"exact": sum(map(math.prod, matrices)) * 5 / 8, "fast": packed}
    assert work.keys(10_000) == sum(10_001 if kind == "full" else 512 for kind in parsed.layer_types)


def test_a_prompt_is_its_tokens_one_by_one() -> None:
    work = Work("270m")
    pairs = 3 * sum(range(1, 1001)) + 15 * (sum(range(1, 513)) + 488 * 512)  # 3 global layers, 15 of window 512
    assert work.prefill_attention_operations(1000) == pairs * 4 * 4 * 256
    assert work.kv_bytes(999) == (3 * 1000 + 15 * 512) * 2 * 256 * 2
