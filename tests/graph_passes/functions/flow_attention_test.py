"""The body of FlowQKV and FlowKV on onnxruntime's CPU provider against a plain numpy reading of the operator's text."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from tests.graph_passes import models

F32, F16, I64, BOOL = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT64, ir.DataType.BOOL

ATOL = 2e-6  # measured 7e-7 against float64; a wrong slot, position or window moves y by 0.1


@dataclasses.dataclass(frozen=True)
class Layer:
    op_type: str
    num_heads: int
    kv_num_heads: int
    head_dim: int
    kv_dtype: ir.DataType
    window: int
    rope_theta: float
    rope_factor: float
    scale: float = 0.3
    eps: float = 1e-6


GLOBAL = Layer("FlowQKV", 4, 1, 8, F16, 0, 1e6, 8.0)
SLIDING = Layer("FlowQKV", 4, 2, 16, F32, 6, 1e4, 1.0)
SLIDING_F16 = dataclasses.replace(SLIDING, kv_dtype=F16)
DECODE = dataclasses.replace(SLIDING_F16, op_type="FlowKV")

# (layer, S, rows of the past, past_len); rows = past_len is a growing cache, else the shared buffer
CALLS = {
    "growing, empty": (GLOBAL, 5, 0, 0),
    "growing, one token": (GLOBAL, 1, 5, 5),
    "growing, a chunk": (GLOBAL, 3, 6, 6),
    "growing, empty, window": (SLIDING, 9, 0, 0),
    "growing, window": (SLIDING, 9, 14, 14),
    "growing, float16, window": (SLIDING_F16, 9, 14, 14),
    "shared, empty": (GLOBAL, 5, 32, 0),
    "shared, a chunk": (GLOBAL, 4, 32, 5),
    "shared, last rows": (GLOBAL, 4, 32, 28),
    "ring, one token, empty": (SLIDING, 1, 8, 0),
    "ring, one token, wrapped": (SLIDING, 1, 8, 17),
    "ring, as large as the window": (SLIDING, 1, 6, 17),
    "ring, chunk over the end": (SLIDING, 7, 8, 10),
    "ring, more tokens than rows": (SLIDING, 20, 8, 3),
    "ring, more new tokens than rows beside the window": (SLIDING_F16, 3, 7, 23),
    "decode, growing, empty": (DECODE, 1, 0, 0),
    "decode, growing": (DECODE, 1, 40, 40),
    "decode, ring": (DECODE, 1, 8, 5),
    "decode, ring, wrapped": (DECODE, 1, 8, 29),
}


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + eps) * weight


def rotate(x_HSD: np.ndarray, position: np.ndarray, layer: Layer) -> np.ndarray:
    half = layer.head_dim // 2
    inv_freq = np.float32(1 / (layer.rope_factor * layer.rope_theta ** (np.arange(half) / half)))
    angle = (position.astype(np.float32)[:, None] * inv_freq).astype(np.float64)
    low, high = x_HSD[..., :half], x_HSD[..., half:]
    return np.concatenate([low * np.cos(angle) - high * np.sin(angle), high * np.cos(angle) + low * np.sin(angle)], -1)


def reference(layer: Layer, x: dict[str, np.ndarray]) -> list[np.ndarray]:
    """y, present_k, present_v; one head, one query, one key at a time."""
    S, past_len = x["q"].shape[1], int(x["past_len"][0])
    rows, dtype = x["past_k"].shape[2], x["past_k"].dtype
    position = past_len + np.arange(S)

    def heads(name: str, count: int) -> np.ndarray:
        return x[name].reshape(S, count, layer.head_dim).transpose(1, 0, 2)

    q_HSD = rotate(rms_norm(heads("q", layer.num_heads), x["q_norm"], layer.eps), position, layer)
    k_HSD = rotate(rms_norm(heads("k", layer.kv_num_heads), x["k_norm"], layer.eps), position, layer).astype(dtype)
    v_HSD = heads("v", layer.kv_num_heads).astype(dtype)

    y_SHD = np.zeros((S, layer.num_heads, layer.head_dim))
    for head in range(layer.num_heads):
        kv = head * layer.kv_num_heads // layer.num_heads
        for i in range(S):
            first = max(0, position[i] - layer.window + 1) if layer.window else 0
            keys, values = [], []
            for p in range(first, position[i] + 1):
                new = p >= past_len
                keys.append(k_HSD[kv, p - past_len] if new else x["past_k"][0, kv, p % rows])
                values.append(v_HSD[kv, p - past_len] if new else x["past_v"][0, kv, p % rows])
            score = layer.scale * (np.array(keys, np.float64) @ q_HSD[head, i])
            weight = np.exp(score - score.max())
            y_SHD[i, head] = weight / weight.sum() @ np.array(values, np.float64)

    capacity = rows if x["shared"][0] else rows + S
    presents = []
    for past, new in ((x["past_k"], k_HSD), (x["past_v"], v_HSD)):
        present = np.zeros((1, layer.kv_num_heads, capacity, layer.head_dim), dtype)
        present[:, :, :rows] = past
        for i in range(S):
            present[0, :, position[i] % capacity] = new[:, i]
        presents.append(present)
    return [y_SHD.reshape(1, S, -1), *presents]


def make_session(layer: Layer) -> ort.InferenceSession:
    Hq, Hkv, Dh = layer.num_heads, layer.kv_num_heads, layer.head_dim
    S = 1 if layer.op_type == "FlowKV" else "S"
    inputs = {
        "q": ir.val("q", F32, [1, S, Hq * Dh]),
        "k": ir.val("k", F32, [1, S, Hkv * Dh]),
        "v": ir.val("v", F32, [1, S, Hkv * Dh]),
        "past_k": ir.val("past_k", layer.kv_dtype, [1, Hkv, "P", Dh]),
        "past_v": ir.val("past_v", layer.kv_dtype, [1, Hkv, "P", Dh]),
        "q_norm": ir.val("q_norm", F32, [Dh]),
        "k_norm": ir.val("k_norm", F32, [Dh]),
        "past_len": ir.val("past_len", I64, [1]),
        "shared": ir.val("shared", BOOL, [1]),
    }
    cache = [ir.val(name, layer.kv_dtype, [1, Hkv, "C", Dh]) for name in ("present_k", "present_v")]
    attributes = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
    for name in ("op_type", "head_dim", "kv_dtype"):
        del attributes[name]
    return models.session(
        models.one_operator(
            layer.op_type, inputs, [ir.val("y", F32, [1, S, Hq * Dh]), *cache], mask="causal", **attributes
        )
    )


def feeds(layer: Layer, S: int, rows: int, past_len: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(S * 1000 + rows * 10 + past_len)
    Hq, Hkv, Dh, dtype = layer.num_heads, layer.kv_num_heads, layer.head_dim, layer.kv_dtype.numpy()

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    cache = {name: random(1, Hkv, rows, Dh).astype(dtype) for name in ("past_k", "past_v")}
    if rows != past_len:
        for past in cache.values():
            past[:, :, past_len:] = np.nan  # rows that nobody has written must not be read
    return {
        "q": random(1, S, Hq * Dh),
        "k": random(1, S, Hkv * Dh),
        "v": random(1, S, Hkv * Dh),
        **cache,
        "q_norm": 1 + 0.3 * random(Dh),
        "k_norm": 1 + 0.3 * random(Dh),
        "past_len": np.array([past_len]),
        "shared": np.array([rows != past_len]),
    }


def check(layer: Layer, found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=ATOL)
    for cache, truth in zip(found[1:], expected[1:], strict=True):
        assert cache.dtype == truth.dtype
        rtol = 2**-10 if layer.kv_dtype == F16 else 1e-6  # one float16 rounding may fall the other way
        np.testing.assert_allclose(cache, truth, rtol=rtol, atol=ATOL)


@pytest.fixture(scope="module")
def sessions() -> dict[Layer, ort.InferenceSession]:
    return {layer: make_session(layer) for layer in (GLOBAL, SLIDING, SLIDING_F16, DECODE)}


@pytest.mark.parametrize("call", CALLS)
def test_attention_equals_the_reference(call: str, sessions: dict[Layer, ort.InferenceSession]) -> None:
    layer, *lengths = CALLS[call]
    x = feeds(layer, *lengths)
    check(layer, sessions[layer].run(None, x), reference(layer, x))


@pytest.mark.parametrize("call", [name for name, (_, _, rows, past_len) in CALLS.items() if rows != past_len])
def test_past_and_present_may_be_one_buffer(call: str, sessions: dict[Layer, ort.InferenceSession]) -> None:
    layer, *lengths = CALLS[call]
    x = feeds(layer, *lengths)
    expected = reference(layer, x)
    binding = sessions[layer].io_binding()
    cache = {}
    for name, array in x.items():
        if name.startswith("past_") and name != "past_len":
            cache[name] = ort.OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_input(name, cache[name])
            binding.bind_ortvalue_output(name.replace("past", "present"), cache[name])
        else:
            binding.bind_cpu_input(name, array)
    binding.bind_output("y")
    sessions[layer].run_with_iobinding(binding)
    y = binding.get_outputs()[-1].numpy()
    check(layer, [y, cache["past_k"].numpy(), cache["past_v"].numpy()], expected)
