"""A prompt on the NPU as a list of launches: what is predicted (predict/prefill.py) is what the tests run.

launch                 reads                        writes                 a layer
norm                   h, norm                      x                      the first only
dequantise, project    units; x, weights            qkv                    1
qk_norm_rope           qkv, rotation, norms         q, keys, values        1
FlowQKV                q, keys, values              attention              1
dequantise, project    units; attention, weights    delta                  1
attention_residual     delta, h, norms              h, x                   1
dequantise, project    units; x, weights            gate_up                1
gelu_mul               gate_up                      mlp                    1
dequantise, project    units; mlp, weights          delta                  1
mlp_residual           delta, h, norms              h, x                   1; its x is the next layer's, or the head's

Then the head reads x's last row, and kv_handover lays out keys and values as decoding reads them. Operands are buffers
in DDR from an offset on; the host does nothing between launches. All of a prompt's rows go through a launch, padded to
the matmul's blocks; what padding holds is finite and nobody sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..decode_layer.plan import BLOCK_ROWS
from ..decode_layer.token import blocks_of
from ..dequantize_q4nx.design import Dequantize, dequantize, plan_dequantize
from ..flow_attention.design import flow_qkv
from ..flow_attention.passes import FlowQkv, Span, passes_of, plan_flow_qkv
from ..gemma3_shapes import Gemma3Shape
from ..kv_handover.design import HEAD, Handover, kv_handover, plan_handover
from ..lm_head.design import lm_head, plan_lm_head
from ..matmul_bf16.design import Matmul, matmul, plan_matmul
from ..matmul_nbits.design import Projection
from ..prefill_rows.design import FIRST_STEP, Rows, plan_rows, rows


@dataclass(frozen=True)
class Attention:
    """A launch of FlowQKV on keys and values with `kv_rows` rows a head."""

    flow: FlowQkv
    span: Span
    kv_rows: int


Plan = Dequantize | Matmul | Rows | Attention | Projection | Handover


@dataclass(frozen=True)
class Operand:
    """A buffer in DDR from element `offset` on, as long as the program says."""

    buffer: str
    offset: int = 0


@dataclass(frozen=True)
class Launch:
    """A program, which `program_of` builds of the plan, and the operands of its sequence."""

    plan: Plan
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Prompt:
    """Tokens to prefill.

    Attributes:
        tokens: In this call.
        start: Positions that earlier calls have prefilled.
        kv_rows: Rows of a head in keys and values.
    """

    shape: Gemma3Shape
    tokens: int
    start: int
    kv_rows: int

    @property
    def rows(self) -> int:
        """Tokens, padded to the matmul's blocks."""
        return plan_matmul(self.tokens, self.shape.hidden, self.shape.hidden).rows

    @property
    def past(self) -> int:
        """Positions when it is done."""
        return self.start + self.tokens

    def projection(self, name: str) -> Matmul:
        """Of qkv, o, gate_up or down."""
        inner, columns = projections(self.shape)[name]
        plan = plan_matmul(self.tokens, inner, columns)
        if plan.padded_columns != columns:
            raise ValueError(f"{name} of {columns} columns would be padded to {plan.padded_columns}")
        return plan

    def attention(self, layer: int) -> Attention:
        """A layer's FlowQKV."""
        window = 0 if self.shape.is_global(layer) else self.shape.window
        return Attention(plan_flow_qkv(self.shape), Span(self.start, self.tokens, window), self.kv_rows)


def projections(shape: Gemma3Shape) -> dict[str, tuple[int, int]]:
    """(K, N) of a layer's matrices, in order; those that read the same rows are one."""
    return {
        "qkv": (shape.hidden, shape.qkv),
        "o": (shape.attention, shape.hidden),
        "gate_up": (shape.hidden, 2 * shape.inter),
        "down": (shape.inter, shape.hidden),
    }


def plan_prompt(shape: Gemma3Shape, tokens: int, start: int = 0, kv_rows: int | None = None) -> Prompt:
    """`tokens` from position `start` on; a prompt in several calls gives the first ones the `kv_rows` of the last."""
    flow, padded = plan_flow_qkv(shape), Prompt(shape, tokens, start, 0).rows
    touched = max(start + padded, passes_of(flow, Span(start, tokens)).rows)
    needed = (blocks_of(touched) + 1) * BLOCK_ROWS  # a block more, for what fills decode's last one
    if kv_rows is not None and kv_rows < needed:
        raise ValueError(f"{kv_rows} rows of keys and values; {tokens} tokens from {start} on need {needed}")
    return Prompt(shape, tokens, start, needed if kv_rows is None else kv_rows)


def prompt_launches(prompt: Prompt) -> Iterator[Launch]:
    """All layers: from h, the embeddings, to x, the hidden states after the final norm."""
    yield _launch(plan_rows(prompt.shape, FIRST_STEP, prompt.rows), "h", "norm.first", "x")
    for layer in range(prompt.shape.layers):
        yield from layer_launches(prompt, layer)


def layer_launches(prompt: Prompt, layer: int) -> Iterator[Launch]:
    """One layer: from x and h to the next layer's."""
    shape = prompt.shape
    cached = layer * shape.kv_heads * prompt.kv_rows * HEAD
    keys, values = Operand("keys", cached), Operand("values", cached)
    rotation = "rotation.global" if shape.is_global(layer) else "rotation.local"

    def project(name: str, source: str, target: str) -> Iterator[Launch]:
        plan = prompt.projection(name)
        yield _launch(plan_dequantize(plan), f"units.{name}.{layer}", "weights")
        yield _launch(plan, source, "weights", target)

    def step(name: str, *operands: str | Operand) -> Launch:
        return _launch(plan_rows(shape, name, prompt.rows, prompt.kv_rows, prompt.start), *operands)

    yield from project("qkv", "x", "qkv")
    yield step("qk_norm_rope", "qkv", rotation, f"norm.qk.{layer}", "q", keys, values)
    yield _launch(prompt.attention(layer), "q", keys, values, "attention")
    yield from project("o", "attention", "delta")
    yield step("attention_residual", "delta", "h", f"norm.attention.{layer}", "x")
    yield from project("gate_up", "x", "gate_up")
    yield step("gelu_mul", "gate_up", "mlp")
    yield from project("down", "mlp", "delta")
    yield step("mlp_residual", "delta", "h", f"norm.mlp.{layer}", "x")


def head_launch(prompt: Prompt, bits: int = 4) -> Launch:
    """Logits of the last token; x is as long as the head's object reaches."""
    last = 2 * (prompt.tokens - 1) * prompt.shape.hidden  # the head counts x in bytes
    return _launch(plan_lm_head(prompt.shape, bits), "head", Operand("x", last), "logits")


def handover_launch(prompt: Prompt, capacity: int) -> Launch:
    """The cache for decoding, with room for `capacity` positions."""
    return _launch(plan_handover(prompt.shape, prompt.past, prompt.kv_rows, capacity), "keys", "values", "cache")


def program_of(plan: Plan) -> Any:
    """The design of a launch."""
    match plan:
        case Dequantize():
            return dequantize(plan)
        case Matmul():
            return matmul(plan)
        case Rows():
            return rows(plan)
        case Attention():
            return flow_qkv(plan.flow, plan.span, plan.kv_rows)
        case Projection():
            return lm_head(plan)
        case Handover():
            return kv_handover(plan)


def _launch(plan: Plan, *operands: str | Operand) -> Launch:
    return Launch(plan, tuple(Operand(o) if isinstance(o, str) else o for o in operands))
