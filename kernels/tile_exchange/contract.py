"""What the little kernels promise by which the tiles of the decode designs hand vectors on: copies, and fp32 sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Arg, KernelContract, Limit, Tolerance, buffer, scalar

SOURCE = "tile_exchange/aie2p.cc"
VECTORS = Limit("count % 16 == 0", "a vector is 16 fp32")
EXACT = Tolerance(
    "copies are exact, and so is one fp32 addition to half a unit: 6e-8 (tile_exchange_test.py)", floor=1e-7
)


def _copies(**scalars: int) -> int:
    """A store for every 64 bytes."""
    return -(-scalars["count"] // 16)


def _adds(**scalars: int) -> int:
    """Two loads, which issue together, and a store for every 64 bytes."""
    return -(-scalars["count"] // 16)


def _contract(name: str, reference: Any, cycles: Any, *args: Arg, limit: Limit = VECTORS) -> KernelContract:
    return KernelContract(
        symbol=f"tile_exchange_{name}_aie2p",
        source=SOURCE,
        args=args,
        numerics="bits are kept; sums in fp32, rounded to nearest even",
        tolerance=EXACT,
        reference=reference,
        cycles=cycles,
        limits=(limit,),
        stack_bytes=256,
    )


def _floats(x: Any) -> Any:
    return np.asarray(x, np.float64)


def _place(sums: Any, out: Any, sums_first: int, sums_count: int, first: int, count: int) -> dict[str, Any]:
    result = _floats(out).copy()
    at = first + np.arange(count) - sums_first
    mine = (at >= 0) & (at < sums_count)
    result[:count] = np.where(mine, _floats(sums)[np.where(mine, at, 0)], 0)
    return {"out": result}


def _add(out: Any, count: int, **given: Any) -> dict[str, Any]:
    result = _floats(out).copy()
    result[:count] += _floats(given["in"])[:count]
    return {"out": result}


def _gather(sums: Any, first: int, count: int, **given: Any) -> dict[str, Any]:
    result = _floats(sums).copy()
    result[first : first + count] += _floats(given["in"])[:count]
    return {"sums": result}


def _forward(out: Any, count: int, **given: Any) -> dict[str, Any]:
    result = _floats(out).copy()
    result[:count] = _floats(given["in"])[:count]
    return {"out": result}


def _zero(out: Any, count: int) -> dict[str, Any]:
    result = _floats(out).copy()
    result[:count] = 0
    return {"out": result}


def _load(object: Any, out: Any, first: int, count: int) -> dict[str, Any]:
    result = _floats(out).copy()
    result[first : first + count] = np.asarray(object, np.uint8).view(np.float32)[:count]
    return {"out": result}


def _pass(object: Any, out: Any, first: int, count: int) -> dict[str, Any]:
    result = np.asarray(out).copy()
    result[:count] = np.asarray(object)[first : first + count]
    return {"out": result}


def _store(object: Any, out: Any, count: int) -> dict[str, Any]:
    words = np.asarray(object, np.uint8).view(np.uint16).astype(np.uint32) << 16
    result = _floats(out).copy()
    result[:count] = words.view(np.float32)[:count]
    return {"out": result}


_COUNT = scalar("count", "elements")
_FIRST = scalar("first", "the first element")
_OBJECT = buffer("object", "uint8", "in", "object_bytes", doc="an object of a stream")


def _loads(name: str) -> KernelContract:
    return _contract(name, _load, _copies, _OBJECT, buffer("out", "float32", "inout", "n"), _FIRST, _COUNT)


def _stores(name: str) -> KernelContract:
    return _contract(
        name, _store, lambda count, **_: -(-count // 32), _OBJECT, buffer("out", "bfloat16", "inout", "n"), _COUNT,
        limit=Limit("count % 32 == 0", "a vector is 32 bf16"),
    )  # fmt: skip


CONTRACTS: tuple[KernelContract, ...] = (
    _contract(
        "place", _place, _copies,
        buffer("sums", "float32", "in", "n_sums", doc="this tile's: sums_count of them, the first is row sums_first"),
        buffer("out", "float32", "inout", "n", doc="rows first … of all tiles; 0 where this tile has none"),
        scalar("sums_first"), scalar("sums_count"), _FIRST, _COUNT,
    ),
    _contract("add", _add, _adds, buffer("in", "float32", "in", "n"), buffer("out", "float32", "inout", "n"), _COUNT),
    _contract(
        "gather", _gather, _adds,
        buffer("in", "float32", "in", "n"), buffer("sums", "float32", "inout", "n_sums"), _FIRST, _COUNT,
    ),
    _contract(
        "forward", _forward, _copies, buffer("in", "float32", "in", "n"), buffer("out", "float32", "inout", "n"), _COUNT
    ),
    _contract("zero", _zero, _copies, buffer("out", "float32", "inout", "n"), _COUNT),
    _contract(
        "pass", _pass, lambda count, **_: -(-count // 64),
        _OBJECT, buffer("out", "uint8", "inout", "object_bytes"), _FIRST, scalar("count", "bytes"),
        limit=Limit("count % 64 == 0", "a vector is 64 bytes"),
    ),
    _loads("load_hidden"),
    _loads("load_table"),
    _stores("store_kv"),
    _stores("store_hidden"),
)  # fmt: skip
