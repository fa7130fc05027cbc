"""A token through all decoder layers in one dispatch; every tile streams weights, keys and values all the time.

docs/npu.md draws it; plan.py has the shares, core.py the program of a tile, packing.py the order of the bytes.

    tiles     32 workers with one program; one of them is also the hub (norms, RoPE, residual), one the writer
    flow      DDR → 16 shim channels → memtile → a stream of 5120-byte objects for each tile. Sums: neighbours' memory,
              a tree of depth 7. Hub → all: one broadcast stream. Writer → DDR: new k and v, last hidden state
    L1        stream 3 or 4 objects, message 1, scratch 1, x, sums, chain 2 parts: 40 KB (270M) to 62 KB (the hub of 4B)
    L2        2 channels x 6 x 10240 B
    channels  shim 2 in (column 3: 2 out); memtile 2 in, 4 out; tile 2 in (hub: 1), hub 1 out, writer 2 out
    BDs       memtile 24 of 24 even, 24 of 24 odd; tile ≤ 6 of 16; shim ≤ 8 a column and layer, two layers in flight
    DDR       0.625 B a weight and ≤ 0.9 % more (plan.py); 2 · 512 B a cached position, KV head and layer that sees it
    roofline  DDR. At 47 GB/s a tile gets 0.8 B a cycle at 1.8 GHz, 1.3 weights; FusedDQP takes 25 weights a cycle.
              Exposed: what the last exchange of the token, the first objects and the dispatch take.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Buffer, Kernel, ObjectFifo, Program, Runtime, Worker, WorkerRuntimeBarrier
from aie.iron.device import NPU2, Tile
from ml_dtypes import bfloat16

from ..matmul_nbits.packing import GROUP_COLUMNS
from ..tile_streams import CHANNELS, TILES, array, linear, make_tile_streams, shim_of, tile_of, to_both, vectors
from .core import HEAD, ROTATION, TileProgram
from .plan import BLOCK_ROWS, HUB, OBJECT, PER_KIND, WRITER, Plan, chain_sources
from .token import Token, cache_blocks, channel_blocks, parameters

BLOCK = 2 * BLOCK_ROWS * HEAD  # elements of a KV block
STACK = 2048


def _kernels(plan: Plan) -> dict[str, Any]:
    part, sums, hidden = (array(n, np.float32) for n in (plan.chunk, plan.sums, plan.shape.hidden))
    state, table = array(plan.shape.heads * 16, np.float32), array(2 * ROTATION, np.float32)
    slot, i32 = array(OBJECT, np.uint8), np.int32
    x, x_groups = vectors(_x_length(plan), bfloat16), vectors(_x_length(plan) // 8, bfloat16)
    kv, out = array(2 * plan.shape.kv_heads * HEAD, bfloat16), array(plan.shape.hidden, bfloat16)

    def kernel(op: str, name: str, *types: Any) -> Any:
        return Kernel(f"{name}_aie2p", f"{op}_aie2p.o", list(types))

    def exchange(name: str, *types: Any) -> Any:
        return kernel("tile_exchange", f"tile_exchange_{name}", *types)

    def flow(name: str, *types: Any) -> Any:
        return kernel("flow_attention", f"flow_kv_{name}", *types)

    return {
        "fused_dqp": kernel("matmul_nbits", "matmul_nbits", slot, x, x_groups, sums, i32, i32, i32, i32, i32),
        "activation": kernel("matmul_nbits", "matmul_nbits_activation", slot, x, x_groups, i32, i32, i32),
        "zero": exchange("zero", sums, i32),
        "place": exchange("place", sums, part, i32, i32, i32, i32),
        "add": exchange("add", part, part, i32),
        "forward": exchange("forward", part, part, i32),
        "gather": exchange("gather", part, sums, i32, i32),
        "copy": exchange("pass", slot, slot, i32, i32),
        "load_hidden": exchange("load_hidden", slot, hidden, i32, i32),
        "load_table": exchange("load_table", slot, table, i32, i32),
        "store_kv": exchange("store_kv", slot, kv, i32),
        "store_hidden": exchange("store_hidden", slot, out, i32),
        "rms_norm": kernel("rms_norm", "rms_norm", hidden, slot, slot, i32, i32, i32),
        "residual_add": kernel("residual_add", "residual_add_f32", sums, slot, hidden, i32, i32, i32),
        "qk_norm_rope": kernel("qk_norm_rope", "qk_norm_rope_f32", part, slot, table, slot, i32, i32, i32, i32),
        "kv_store": kernel("kv_store", "kv_store", part, slot, i32, i32),
        "gelu_mul": kernel("gelu_mul", "gelu_mul_f32", sums, slot, i32, i32),
        "flow_init": flow("init", state, sums, i32),
        "flow_scores": flow("scores", slot, slot, state, state, i32, i32, i32, i32),
        "flow_values": flow("values", state, slot, sums, i32, i32, i32),
        "flow_merge": flow("merge", part, sums, i32),
        "flow_finish": flow("finish", sums, slot, i32, i32),
    }


def _x_length(plan: Plan) -> int:
    return (plan.x_groups + max(share.mlp_groups for share in plan.shares)) * GROUP_COLUMNS


def _buffers(plan: Plan, tile: int, place: Tile) -> dict[str, Any]:
    length = _x_length(plan)
    sizes: dict[str, tuple[int, Any]] = {
        "x": (length, bfloat16),
        "x_groups": (length // 8, bfloat16),
        "sums": (plan.sums, np.float32),
        "scratch": (OBJECT, np.uint8),
        "softmax": (plan.shape.heads * 16, np.float32),
        "weights": (plan.shape.heads * 16, np.float32),
        "parameters": (2 * PER_KIND, np.int32),
    }
    if tile == HUB:
        sizes["hidden"] = (plan.shape.hidden, np.float32)
        sizes["table"] = (2 * ROTATION, np.float32)
        sizes["head"] = (plan.chunk, np.float32)
    return {
        name: Buffer(vectors(n, dtype), name=f"tile{tile}_{name}", placement=place, use_write_rtp=name == "parameters")
        for name, (n, dtype) in sizes.items()
    }


def decode_layer(plan: Plan, token: Token) -> Any:
    """The program: sequence(weights, cache, token, hidden).

    weights: pack_weights. cache: all layers' pack_cache, one after the other, bf16; the token's own keys and values are
    written into it. token: pack_token. hidden: bf16 `[hidden]`, after the final norm.
    """
    shape = plan.shape
    streams = make_tile_streams(OBJECT, l1_depth=3 if shape.hidden > 2048 else 4)
    message = ObjectFifo(array(OBJECT, np.uint8), depth=1, name="message")
    kv_out = ObjectFifo(array(2 * shape.kv_heads * HEAD, bfloat16), depth=2, name="kv_out")
    out = ObjectFifo(array(shape.hidden, bfloat16), depth=1, name="hidden_out")
    chains = {
        tile: ObjectFifo(array(plan.chunk, np.float32), depth=2, name=f"chain{tile}")
        for tile in range(TILES)
        if tile != HUB
    }
    kernels, barrier = _kernels(plan), WorkerRuntimeBarrier()
    workers, to_write = [], []
    for tile in range(TILES):
        ends: dict[str, Any] = {"stream": streams.tiles[tile]}
        ends["message"] = message.prod() if tile == HUB else message.cons()
        if tile != HUB:
            ends["chain"] = chains[tile].prod()
        ends |= {f"chain{source}": chains[source].cons() for source in chain_sources(tile)}
        if tile == WRITER:
            ends |= {"kv_out": kv_out.prod(), "out": out.prod()}
        place = tile_of(tile)
        buffers = _buffers(plan, tile, place)
        to_write.append((buffers["parameters"], parameters(plan, token, tile)))
        arguments = {**ends, **buffers, **kernels, "barrier": barrier}
        program = TileProgram(plan, tile, list(arguments))
        workers.append(Worker(program, list(arguments.values()), placement=place, stack_size=STACK))

    before = [OBJECT * 2 * plan.objects(2 * channel)[0] for channel in range(CHANNELS)]
    after = [OBJECT * 2 * plan.objects(2 * channel)[1] for channel in range(CHANNELS)]
    starts = np.cumsum([0, *(shape.layers * (b + a) for b, a in zip(before, after, strict=True))])
    head_blocks = [cache_blocks(plan, token, layer) for layer in range(shape.layers)]
    layer_starts = np.cumsum([0, *(shape.kv_heads * blocks * BLOCK for blocks in head_blocks)])
    token_bytes = OBJECT * (plan.state_objects + 2)

    rt = Runtime()
    with rt.sequence(
        array(int(starts[-1]), np.uint8),
        array(int(layer_starts[-1]), bfloat16),
        array(token_bytes, np.uint8),
        array(shape.hidden, bfloat16),
    ) as (weights, cache, token_in, hidden):
        rt.start(*workers)

        def write(buffer: Any, values: list[int]) -> None:
            for i, value in enumerate(values):
                buffer[i] = value

        def fill_weights(channel: int, first: int, count: int, group: Any) -> None:
            tap = linear(int(starts[-1]), int(starts[channel]) + first, count)
            rt.fill(streams.channels[channel], weights, tap, group, wait=True, placement=shim_of(channel))

        def fill_cache(channel: int, layer: int, group: Any) -> None:
            first, count = channel_blocks(plan, token, channel, shape.is_global(layer))
            if count:
                base = int(layer_starts[layer]) + plan.kv_head(2 * channel) * head_blocks[layer] * BLOCK
                tap = linear(int(layer_starts[-1]), base + first * BLOCK, count * BLOCK)
                rt.fill(streams.channels[channel], cache, tap, group, placement=shim_of(channel))

        def drain_kv(layer: int, group: Any) -> None:
            slot = token.write_slot(plan, shape.is_global(layer))
            block, row = divmod(slot, BLOCK_ROWS)
            for head in range(shape.kv_heads):
                base = int(layer_starts[layer]) + (head * head_blocks[layer] + block) * BLOCK + row * HEAD
                tap = TensorAccessPattern((int(layer_starts[-1]),), base, [1, 1, 2, HEAD], [0, 0, BLOCK_ROWS * HEAD, 1])
                rt.drain(kv_out.cons(), cache, tap, group, wait=True, placement=Tile(WRITER // 4, 0))

        opening = rt.task_group()
        for first in range(0, token_bytes, OBJECT):
            tap = to_both(token_bytes, first, OBJECT)
            rt.fill(streams.channels[HUB // 2], token_in, tap, opening, placement=shim_of(HUB // 2))
        for channel in range(CHANNELS):
            fill_weights(channel, 0, before[channel], opening)
        for buffer, values in to_write:  # the streams fill meanwhile
            rt.inline_ops(write, [buffer, values])
        rt.set_barrier(barrier, 1)
        previous = opening
        for layer in range(shape.layers):
            group = rt.task_group()
            for channel in range(CHANNELS):
                fill_cache(channel, layer, group)
                following = before[channel] if layer + 1 < shape.layers else 0
                first = layer * (before[channel] + after[channel]) + before[channel]
                fill_weights(channel, first, after[channel] + following, group)
            rt.finish_task_group(previous)
            drain_kv(layer, group)  # a channel's queue holds four, which are the heads of one layer
            previous = group
        rt.finish_task_group(previous)
        closing = rt.task_group()
        rt.drain(out.cons(), hidden, task_group=closing, wait=True, placement=Tile(WRITER // 4, 0))
        rt.finish_task_group(closing)
    return Program(NPU2(), rt).resolve_program()
