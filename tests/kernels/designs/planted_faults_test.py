"""Faults planted in the decode design itself: each is refused, or found as a deadlock, with the right reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kernels import tile_streams
from kernels.decode_layer import core, design
from kernels.decode_layer.plan import make_plan
from kernels.decode_layer.token import Token
from kernels.gemma3_shapes import GEMMA3_270M
from kernels.sim import Deadlock, DesignError, lower
from tests.kernels.designs.decode_token import run_token
from tests.kernels.designs.gemma3_reference import random_model

Patch = Callable[[pytest.MonkeyPatch], None]


def too_deep(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tile_streams.make_tile_streams, "__defaults__", (7, 4))


def third_shim_channel(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(design, "shim_of", lambda channel: tile_streams.Tile(min(channel // 2, 6), 0))


def stride_of_two_bytes(patch: pytest.MonkeyPatch) -> None:
    pattern = design.TensorAccessPattern
    patch.setattr(
        design, "TensorAccessPattern", lambda dims, at, sizes, strides: pattern(dims, at, sizes, [0, 0, 1, 1])
    )


def missing_release(patch: pytest.MonkeyPatch) -> None:
    def without_release(program: Any, t: Any) -> None:
        if not program.is_hub:
            t.message.acquire(1)

    patch.setattr(core.TileProgram, "_finish", without_release)


def objects_of_another_size(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(design, "make_tile_streams", lambda size, l1_depth: tile_streams.make_tile_streams(size // 2))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (too_deep, "too many buffer descriptors: mem tile"),
        (third_shim_channel, "too many MM2S DMA channels.*shim tile"),
        (stride_of_two_bytes, "2 bytes.*multiples of 4"),
        (missing_release, "a missing release: core.*fifo message"),
        (objects_of_another_size, "a FIFO's type and a kernel's must be the same"),
    ],
)
def test_a_planted_fault_is_refused(fault: Patch, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, token = make_plan(GEMMA3_270M), Token(5, 64)
    lower(design.decode_layer(plan, token))
    fault(monkeypatch)
    with pytest.raises((DesignError, TypeError), match=reason):
        lower(design.decode_layer(plan, token))


def test_a_tile_that_does_not_take_a_message_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = core.TileProgram._receive_x

    def deaf(program: core.TileProgram, t: Any, count: int) -> None:
        if program.tile != 21:
            receive(program, t, count)

    monkeypatch.setattr(core.TileProgram, "_receive_x", deaf)
    with pytest.raises(Deadlock) as found:
        run_token(random_model(replace(GEMMA3_270M, layers=2), 5), 64)
    assert any("message" in wait for wait in found.value.waits)
