"""The kernels that hand vectors on between tiles, by their contracts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels.aie_emulation.host_library import bfloat16_bits
from kernels.tile_exchange.contract import CONTRACTS
from tests.kernels.aie2p.running import judge

BY_NAME = {contract.symbol.removeprefix("tile_exchange_").removesuffix("_aie2p"): contract for contract in CONTRACTS}


def floats(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


@pytest.mark.parametrize(
    ("mine", "rows"), [((0, 1152), 288), ((160, 64), 144), ((160, 64), 208), ((0, 16), 96), ((512, 48), 0)]
)
def test_place_puts_a_tile_s_rows_among_those_of_all(mine: tuple[int, int], rows: int) -> None:
    sizes = {"n_sums": 1200, "n": 288, "sums_first": mine[0], "sums_count": mine[1], "first": rows, "count": 288}
    scalars = {name: sizes[name] for name in ("sums_first", "sums_count", "first", "count")}
    judge(BY_NAME["place"], sizes, sums=floats(1200), out=floats(288, 1), **scalars)


@pytest.mark.parametrize("name", ["add", "forward"])
@pytest.mark.parametrize("count", [256, 272, 320])
def test_parts_are_added_and_forwarded(name: str, count: int) -> None:
    given = {"in": floats(320), "out": floats(320, 1), "count": count}
    judge(BY_NAME[name], {"n": 320, "count": count}, **given)


def test_gather_adds_to_the_rows_of_a_part() -> None:
    given = {"in": floats(288), "sums": floats(1200, 1), "first": 864, "count": 288}
    judge(BY_NAME["gather"], {"n": 288, "n_sums": 1200, "first": 864, "count": 288}, **given)


def test_zero() -> None:
    judge(BY_NAME["zero"], {"n": 1200, "count": 640}, out=floats(1200), count=640)


def test_objects_are_passed_loaded_and_stored() -> None:
    data = bfloat16_bits(floats(2560)).view(np.uint8)
    scalars = {"first": 1024, "count": 2048}
    judge(BY_NAME["pass"], {"object_bytes": 5120, **scalars}, object=data, out=np.zeros(5120, np.uint8), **scalars)
    scalars = {"first": 1280, "count": 1280}
    for name in ("load_hidden", "load_table"):
        judge(BY_NAME[name], {"object_bytes": 5120, "n": 2560, **scalars}, object=data, out=floats(2560, 2), **scalars)
    for name in ("store_kv", "store_hidden"):
        sizes = {"object_bytes": 5120, "n": 640, "count": 512}
        judge(BY_NAME[name], sizes, object=data, out=np.zeros(640), count=512)
