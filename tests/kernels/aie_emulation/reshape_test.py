"""Moving lanes about, against numpy indexing."""

from __future__ import annotations

import numpy as np
import pytest

from .probing import Core

X = np.arange(100, 164, dtype=np.int16)
W = np.arange(200, 264, dtype=np.int16)
OUT = (64, np.int16)


@pytest.mark.parametrize("n", [0, 1, 5, 63])
def test_shuffles(n: int) -> None:
    i = np.arange(64)
    zero = np.zeros(64, np.int16)
    up, down = np.concatenate([zero, X])[64 + i - n], np.concatenate([X, zero])[i + n]
    assert np.array_equal(Core()("shuffle_up", X, n, out=OUT), up)
    assert np.array_equal(Core()("shuffle_down", X, n, out=OUT), down)
    assert np.array_equal(Core()("shuffle_up_rotate", X, n, out=OUT), np.roll(X, n))
    assert np.array_equal(Core()("shuffle_down_rotate", X, n, out=OUT), np.roll(X, -n))
    assert np.array_equal(Core()("shuffle_up_replicate", X, n, out=OUT), X[np.maximum(i - n, 0)])
    assert np.array_equal(Core()("shuffle_down_replicate", X, n, out=OUT), X[np.minimum(i + n, 63)])
    assert np.array_equal(Core()("shuffle_up_fill", X, W, n, out=OUT), np.concatenate([W, X])[64 + i - n])
    assert np.array_equal(Core()("shuffle_down_fill", X, W, n, out=OUT), np.concatenate([X, W])[i + n])


@pytest.mark.parametrize("chunk", [1, 2, 8, 16])
def test_interleaving_and_filters(chunk: int) -> None:
    x, w = X[:32], W[:32]
    zipped = np.stack([x.reshape(-1, chunk), w.reshape(-1, chunk)], axis=1).reshape(64)
    assert np.array_equal(Core()("interleave_zip", x, w, chunk, out=OUT), zipped)
    unzipped = np.concatenate([x, w]).reshape(-1, 2, chunk).transpose(1, 0, 2).reshape(64)
    assert np.array_equal(Core()("interleave_unzip", x, w, chunk, out=OUT), unzipped)
    pairs = X.reshape(-1, 2, chunk)
    assert np.array_equal(Core()("filter_even", X, chunk, out=(32, np.int16)), pairs[:, 0].reshape(32))
    assert np.array_equal(Core()("filter_odd", X, chunk, out=(32, np.int16)), pairs[:, 1].reshape(32))


@pytest.mark.parametrize("rows", [2, 4, 8, 16])
def test_transpose(rows: int) -> None:
    assert np.array_equal(Core()("transpose", X, rows, out=OUT), X.reshape(rows, -1).T.reshape(64))


def test_parts_of_vectors() -> None:
    y = Core()("parts", X, out=(192, np.int16))
    swapped = np.concatenate([X[32:], X[:32]])
    swapped[5] = -1
    assert np.array_equal(y[:64], swapped)
    assert np.array_equal(y[64:128], np.tile(X[:16], 4))
    assert np.array_equal(y[128:], X.reshape(4, 16)[::-1].reshape(64))
    assert np.array_equal(Core()("reverse", X, out=OUT), X[::-1])


def test_iterators() -> None:
    y = Core()("iterators", X.view(np.uint16), out=(64, np.uint16))
    assert np.array_equal(y.view(np.int16), X.reshape(4, 16)[::-1].reshape(64))
