"""A token through the decode design, on real shapes, against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from kernels.decode_layer import plan as plans
from kernels.decode_layer.design import decode_layer
from kernels.decode_layer.plan import BLOCK_ROWS, KV_ROWS, PER_KIND
from kernels.decode_layer.token import Token, blocks_of, channel_blocks, parameters
from kernels.gemma3_shapes import GEMMA3_1B, GEMMA3_4B, GEMMA3_270M, SHAPES, Gemma3Shape
from kernels.matmul_nbits.packing import STRIP_ROWS, UNITS_PER_OBJECT
from kernels.sim import lower
from tests.kernels.designs.configuration import configuration
from tests.kernels.designs.decode_token import HEAD, cache_of, run_token
from tests.kernels.designs.gemma3_reference import decode, random_model, to_bf16
from tests.kernels.designs.running import relative_error


@pytest.mark.parametrize(
    ("shape", "layers", "past"),
    [
        pytest.param(GEMMA3_270M, 6, 700, id="270m: five sliding layers past their window, one global"),
        pytest.param(GEMMA3_270M, 2, 0, id="270m: the first token"),
        pytest.param(GEMMA3_270M, 1, 511, id="270m: the last token before the ring is full"),
        pytest.param(GEMMA3_1B, 1, 45, id="1b"),
        pytest.param(GEMMA3_4B, 1, 1030, id="4b: four KV heads"),
        pytest.param(GEMMA3_270M, 18, 1200, id="270m: whole", marks=pytest.mark.slow),
        pytest.param(GEMMA3_1B, 6, 3000, id="1b: a global layer", marks=pytest.mark.slow),
        pytest.param(GEMMA3_4B, 6, 2000, id="4b: a global layer", marks=pytest.mark.slow),
    ],
)
def test_a_token_equals_the_reference(shape: Gemma3Shape, layers: int, past: int) -> None:
    model = random_model(replace(shape, layers=layers), past)
    hidden, caches, result = run_token(model, past + 1)
    truth, keys, values = decode(model)
    ideal, _, _ = decode(model, to_bf16)
    error, allowed = relative_error(hidden, truth), 2 * relative_error(to_bf16(ideal), truth)
    print(f"hidden state: relative error {error:.2e}, allowed {allowed:.2e}")
    assert error <= allowed

    for layer, cache in enumerate(caches):
        slot = past if shape.is_global(layer) else past % shape.window
        blocks = cache.view(bfloat16).astype(np.float64).reshape(shape.kv_heads, -1, 2, BLOCK_ROWS, HEAD)
        new = blocks[:, slot // BLOCK_ROWS, :, slot % BLOCK_ROWS]
        assert relative_error(new[:, 0], keys[layer]) < 0.01
        assert relative_error(new[:, 1], values[layer]) < 0.01
        before = cache_of(shape, layer, model.keys[layer], model.values[layer], past + 1).reshape(
            shape.kv_heads, -1, 2, BLOCK_ROWS, HEAD
        )
        after = cache.reshape(before.shape).copy()
        after[:, slot // BLOCK_ROWS, :, slot % BLOCK_ROWS] = before[:, slot // BLOCK_ROWS, :, slot % BLOCK_ROWS]
        assert np.array_equal(before, after), "another slot of the cache was written"

    seen = sum(past if shape.is_global(layer) else min(past, shape.window) for layer in range(layers))
    needed = layers * shape.layer_weights * 0.625 + seen * shape.kv_heads * 2 * HEAD * 2
    assert needed < result.ddr_read < 1.02 * needed + layers * shape.kv_heads * 2 * BLOCK_ROWS * HEAD * 2


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_shares_cover_every_unit_once(shape: Gemma3Shape) -> None:
    plan = plans.make_plan(shape)
    for name, rows, groups in (
        ("qkv", shape.qkv, shape.hidden // 32),
        ("o", shape.hidden, shape.attention // 32),
    ):
        runs = [getattr(share, name) for share in plan.shares]
        units = [run.first + i for run in runs for i in range(run.objects * UNITS_PER_OBJECT)]
        assert units == list(range(rows // STRIP_ROWS * groups))
    groups = [share.mlp_group + i for share in plan.shares for i in range(share.mlp_groups)]
    assert groups == list(range(shape.inter // 32))
    for tile in range(0, plans.TILES, 2):
        assert plan.objects(tile) == plan.objects(tile + 1), "a channel's tiles take the same number of objects"
    moved = sum(sum(plan.objects(tile)) for tile in range(plans.TILES)) * plans.OBJECT
    assert moved < 1.01 * shape.layer_weights * 0.625


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_all_32_tiles_take_weights_from_both_channels_of_every_column(shape: Gemma3Shape) -> None:
    program = lower(decode_layer(plans.make_plan(shape), Token(100, 1024)))
    sent: dict[tuple[int, int], int] = {}
    for transfer in program.transfers:
        channel = transfer.channel
        if channel.direction == "MM2S":
            key = (channel.place.col, channel.index)
            sent[key] = sent.get(key, 0) + transfer.repeat * transfer.pattern.nbytes
    assert sorted(sent) == [(column, index) for column in range(8) for index in range(2)]
    print(f"busiest channel {16 * max(sent.values()) / sum(sent.values()):.3f} of the mean")
    assert 16 * max(sent.values()) < 1.15 * sum(sent.values()), "no channel carries much more than the mean"
    fed = {sink.place for stream in program.streams for sink in stream.sinks if sink.fifo.startswith("stream")}
    assert len({place for place in fed if place.kind == "core"}) == 32


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("past", [0, 1, 9, 10, 19, 20, 333, 511, 512, 513, 1023, 1024, 1500, 32767])
def test_every_cached_position_is_attended_to_by_one_tile(shape: Gemma3Shape, past: int) -> None:
    plan, token = plans.make_plan(shape), Token(past, 40000)
    for kind, is_global in enumerate((False, True)):
        slots, evicted = token.slots(plan, is_global)
        seen: list[list[int]] = [[] for _ in range(shape.kv_heads)]
        for tile in range(plans.TILES):
            full, last, last_rows, skip = parameters(plan, token, tile)[PER_KIND * kind :][:4]
            first, count = channel_blocks(plan, token, tile // 2, is_global)
            assert full + last == count, "as many objects as the channel sends"
            for block in range(count):
                for row in range(KV_ROWS if block < full else last_rows):
                    if block * KV_ROWS + row != skip:
                        seen[plan.kv_head(tile)].append((first + block) * BLOCK_ROWS + tile % 2 * KV_ROWS + row)
        for mine in seen:
            assert sorted(mine) == [slot for slot in range(slots) if slot != evicted]
        assert blocks_of(slots) * BLOCK_ROWS - slots < BLOCK_ROWS


def test_one_configuration_serves_every_length() -> None:
    def configured(past: int, capacity: int) -> Any:
        return configuration(decode_layer(plans.make_plan(GEMMA3_1B), Token(past, capacity)))

    first = configured(7, 1024)
    assert any("parameters[" in line for line in first.cores[0]), "lengths are run-time parameters"
    for past, capacity in ((0, 1024), (1023, 1024), (30000, 32768)):
        assert configured(past, capacity) == first
