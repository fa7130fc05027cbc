"""The bodies of MatMulNBits and EmbedNBits on onnxruntime's CPU provider against q4nx.dequantize."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from tests.graph_passes import models

F32, I64 = ir.DataType.FLOAT, ir.DataType.INT64

# (N, K): one slab and several, odd counts of row blocks, both paddings, the shapes of 270M
SHAPES = [(32, 256), (33, 32), (100, 96), (96, 640), (256, 640), (1600, 288), (640, 1024)]


def any_blocks(N: int, K: int, bits: int) -> np.ndarray:
    """Every code, and scales and minima of both signs and all sizes, zero and subnormal too."""
    rng = np.random.default_rng(N + K)
    groups = -(-K // 32)
    words = rng.integers(0, 1 << 16, (2, N, groups)).astype(np.uint16)
    words[(words & 0x7F80) >= 0x7800] &= 0x807F  # what would overflow becomes subnormal
    words[rng.random(words.shape) < 0.1] = 0
    if bits == 8:
        return q4nx.pack(words[0], None, rng.integers(-128, 128, (N, K)).astype(np.int8))
    return q4nx.pack(words[0], words[1], rng.integers(0, 16, (N, K)).astype(np.uint8))


def matmul(N: int, K: int, bits: int, blocks: np.ndarray) -> ort.InferenceSession:
    a = ir.val("A", F32, [1, "S", K])
    w = ir.val("W", const_value=ir.Tensor(blocks, name="W"))
    y = ir.val("Y", F32, [1, "S", N])
    return models.session(models.one_operator("MatMulNBits", {"A": a, "W": w}, [y], K=K, N=N, bits=bits, block_size=32))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("N", "K"), SHAPES)
def test_matmul_with_the_identity_gives_the_weights_exactly(N: int, K: int, bits: int) -> None:
    blocks = any_blocks(N, K, bits)
    [y] = matmul(N, K, bits, blocks).run(None, {"A": np.eye(K, dtype=np.float32)[None]})
    assert np.array_equal(y[0], q4nx.dequantize(blocks, N, K).T)


@pytest.mark.parametrize("S", [1, 7])
@pytest.mark.parametrize("bits", [4, 8])
def test_matmul_multiplies(bits: int, S: int) -> None:
    N, K = 320, 640
    rng = np.random.default_rng(1)
    blocks = q4nx.quantize_rtn(rng.standard_normal((N, K)), bits)
    a = rng.standard_normal((1, S, K)).astype(np.float32)
    [y] = matmul(N, K, bits, blocks).run(None, {"A": a})
    truth = a.astype(np.float64) @ q4nx.dequantize(blocks, N, K).T
    assert y.shape == (1, S, N)
    np.testing.assert_allclose(y, truth, rtol=0, atol=1e-4)  # measured 3e-5, at values up to 90


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("N", "K"), SHAPES)
def test_embedding_gives_the_scaled_rows_exactly(N: int, K: int, bits: int) -> None:
    blocks = any_blocks(N, K, bits)
    ids = ir.val("ids", I64, [1, "S"])
    w = ir.val("W", const_value=ir.Tensor(blocks, name="W"))
    y = ir.val("Y", F32, [1, "S", K])
    scale = float(np.float32(np.sqrt(640)))
    session = models.session(
        models.one_operator("EmbedNBits", {"ids": ids, "W": w}, [y], K=K, N=N, bits=bits, scale=scale)
    )
    wanted = np.array([[N - 1, 0, *np.random.default_rng(2).integers(0, N, 20)]])
    [rows] = session.run(None, {"ids": wanted})
    expected = q4nx.dequantize(blocks, N, K)[wanted] * np.float32(scale)
    assert np.array_equal(rows, expected)
    with pytest.raises(Exception, match="out of"):
        session.run(None, {"ids": np.array([[(N + 31) // 32 * 32]])})


def test_every_bfloat16_is_widened_exactly() -> None:
    """All 65536 patterns as scales, the ones that are not finite left out."""
    words = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 1)
    words = words[np.isfinite(q4nx.from_bfloat16(words))].reshape(-1, 1)
    blocks = q4nx.pack(words, np.zeros_like(words), np.ones((len(words), 32), np.uint8))
    [y] = matmul(len(words), 32, 4, blocks).run(None, {"A": np.eye(1, 32, dtype=np.float32)[None]})
    assert np.array_equal(y[0, 0], q4nx.from_bfloat16(words)[:, 0])
