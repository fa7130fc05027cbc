"""Q4NX bytes against a slow reading of the format's words, and what quantising promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx

SHAPES = [(32, 256), (64, 512), (33, 32), (1, 1), (96, 640), (31, 257)]


def weights(N: int, K: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((N, K)) * 0.02).astype(np.float32)


def bfloat16(low: np.uint8, high: np.uint8) -> np.float32:
    return np.array([int(low) << 16 | int(high) << 24], np.uint32).view(np.float32)[0]


def weight_by_the_words(blocks: np.ndarray, K: int, row: int, column: int) -> np.float32:
    """One weight, byte by byte as reference and header state the format; bits from the block's size."""
    block = blocks[row // 32 * -(-K // 256) + column // 256]
    r, c = row % 32, column % 256
    g = c // 32
    scale = bfloat16(block[2 * (g * 32 + r)], block[2 * (g * 32 + r) + 1])
    if len(block) == 8704:
        return scale * np.float32(np.int8(block[512 + (r // 16) * 4096 + c * 16 + r % 16].astype(np.int8)))
    minimum = bfloat16(block[512 + 2 * (g * 32 + r)], block[512 + 2 * (g * 32 + r) + 1])
    byte = block[1024 + (r // 16) * 2048 + c * 8 + (r % 16) // 2]
    return scale * np.float32(byte >> 4 if r % 2 else byte & 15) + minimum


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("N", "K"), SHAPES)
def test_dequantize_reads_the_words(N: int, K: int, bits: int) -> None:
    rng = np.random.default_rng(N * K)
    blocks = rng.integers(0, 256, (q4nx.block_count(N, K), q4nx.BLOCK_BYTES[bits]), np.uint8)
    blocks[:, 1:1024:2] = blocks[:, 1:1024:2] % 4 + 60  # exponents of moderate size where a scale or minimum is
    w = q4nx.dequantize(blocks, N, K)
    for row, column in zip(rng.integers(0, N, 200), rng.integers(0, K, 200), strict=True):
        assert w[row, column] == weight_by_the_words(blocks, K, row, column)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("N", "K"), SHAPES)
def test_pack_and_unpack_are_inverse(N: int, K: int, bits: int) -> None:
    rng = np.random.default_rng(K)
    groups = -(-K // 32)
    scale = rng.integers(0, 1 << 16, (N, groups), np.uint16)
    minimum = rng.integers(0, 1 << 16, (N, groups), np.uint16) if bits == 4 else None
    q = rng.integers(0, 16, (N, K), np.uint8) if bits == 4 else rng.integers(-128, 128, (N, K), np.int8)
    blocks = q4nx.pack(scale, minimum, q)
    scale2, minimum2, q2 = q4nx.unpack(blocks, N, K)
    assert np.array_equal(scale, scale2)
    assert np.array_equal(q, q2)
    assert minimum2 is None if minimum is None else np.array_equal(minimum, minimum2)
    if (N, K) == (32, 256):  # no padding: every byte is used once
        assert np.array_equal(
            np.sort(blocks[0, : 512 if bits == 8 else 1024].view(np.uint16)),
            np.sort(np.concatenate([scale.ravel(), *([minimum.ravel()] if minimum is not None else [])])),
        )


def test_matrices_of_several_slabs_have_the_bytes_of_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    w = weights(200, 320)
    whole = {bits: q4nx.quantize_rtn(w, bits) for bits in (4, 8)}
    monkeypatch.setattr(q4nx, "_SLAB_ELEMENTS", 1)
    for bits, blocks in whole.items():
        assert np.array_equal(q4nx.quantize_rtn(w, bits), blocks)
        assert np.array_equal(q4nx.pack(*q4nx.unpack(blocks, *w.shape)), blocks)


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_the_nearest_to_the_rounded_scale_and_minimum(bits: int) -> None:
    w = weights(40, 320)
    scale, minimum, q = q4nx.unpack(q4nx.quantize_rtn(w, bits), *w.shape)
    codes = np.arange(16) if bits == 4 else np.arange(-127, 128)
    scale = q4nx.from_bfloat16(scale).repeat(32, 1)[..., None].astype(np.float64)
    minimum = 0 if minimum is None else q4nx.from_bfloat16(minimum).repeat(32, 1)[..., None].astype(np.float64)
    error = np.abs(scale * codes + minimum - w[..., None])
    found = np.take_along_axis(error, q[..., None].astype(int) - codes[0], axis=2)[..., 0]
    assert (found <= error.min(axis=2) * (1 + 1e-6)).all()
    assert len(np.unique(q)) == len(codes)


@pytest.mark.parametrize(("bits", "limit"), [(4, 0.085), (8, 0.006)])  # measured: 0.0786 and 0.0054
def test_error_of_gaussian_weights(bits: int, limit: float) -> None:
    w = weights(256, 1024)
    error = q4nx.dequantize(q4nx.quantize_rtn(w, bits), *w.shape) - w
    assert 0.5 * limit < np.sqrt(np.mean(error**2)) / w.std() < limit


def test_special_groups() -> None:
    w = np.zeros((32, 256), np.float32)
    w[1, :32] = -0.75  # constant: kept if bfloat16 has it
    w[2, :32] = np.linspace(0, 15, 32).round() * 0.5 - 3  # on a grid that bfloat16 has
    w[3, :32] = 1e-40  # subnormal
    again = q4nx.dequantize(q4nx.quantize_rtn(w), *w.shape)
    assert np.array_equal(again[:3], w[:3])
    assert np.array_equal(again[4:], w[4:])
    assert np.abs(again[3] - w[3]).max() <= 2.0**-134  # half a step


def test_padding_is_zero() -> None:
    blocks = q4nx.quantize_rtn(weights(33, 64) + 1)
    scale, minimum, q = q4nx.unpack(blocks, 64, 256)
    assert not scale[33:].any() and not minimum[33:].any() and not q[33:].any()
    assert not scale[:, 2:].any() and not minimum[:, 2:].any() and not q[:, 64:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_strides_and_types_do_not_matter(dtype: type) -> None:
    w = weights(64, 96).astype(np.float16).astype(dtype)
    expected = q4nx.quantize_rtn(np.ascontiguousarray(w, np.float32))
    assert np.array_equal(q4nx.quantize_rtn(np.asfortranarray(w)), expected)
    assert np.array_equal(q4nx.quantize_rtn(np.repeat(w, 2, axis=1)[:, ::2]), expected)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float, bits: int) -> None:
    w = weights(100, 64)
    w[70, 33] = bad
    with pytest.raises(ValueError, match=rf"rows 0..99 cannot be quantised: w\[70, 33\] is {bad}"):
        q4nx.quantize_rtn(w, bits)


def test_a_range_that_bfloat16_does_not_hold_is_refused() -> None:
    w = weights(32, 32)
    w[0, :2] = 3e38, -3e38
    with pytest.raises(ValueError, match=r"values reach 3e\+38, too large"):
        q4nx.quantize_rtn(w)


def test_payload_of_a_nan_does_not_hide_it() -> None:
    w = weights(32, 32)
    w[5, 5] = np.array([0x7FFFFFFF], np.uint32).view(np.float32)[0]
    with pytest.raises(ValueError, match=r"w\[5, 5\] is nan"):
        q4nx.quantize_rtn(w)


@pytest.mark.parametrize("w", [np.zeros(3, np.float32), np.zeros((0, 4), np.float32)], ids=["vector", "empty"])
def test_only_matrices_are_quantised(w: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a non-empty matrix"):
        q4nx.quantize_rtn(w)


def test_wrong_bits_wrong_columns_wrong_blocks() -> None:
    with pytest.raises(ValueError, match="bits is 5"):
        q4nx.quantize_rtn(weights(32, 32), 5)
    with pytest.raises(ValueError, match="K is 40"):
        q4nx.quantize_rtn(weights(32, 40))
    with pytest.raises(ValueError, match=r"has uint8 \[2, 5120\]"):
        q4nx.dequantize(np.zeros((1, 5120), np.uint8), 33, 256)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**127), max_value=2.0**127))
def test_bfloat16_is_the_nearest(x: float) -> None:
    found = q4nx.from_bfloat16(q4nx.to_bfloat16(np.float32([x])))[0].astype(np.float64)
    step = q4nx.to_bfloat16(np.float32([x])).astype(np.int64)
    neighbours = [q4nx.from_bfloat16((step + d).clip(0, 0xFFFF).astype(np.uint16))[0] for d in (-1, 1)]
    assert all(abs(found - x) <= abs(float(n) - x) for n in neighbours if np.isfinite(n))
