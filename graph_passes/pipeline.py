"""The passes in their order, and the report of a run."""

from __future__ import annotations

__all__ = ["FusionError", "Report", "fuse"]

import collections
import dataclasses

import onnx_ir as ir
from onnx_ir.passes import common

from .declare_operators import DeclareOperators
from .fuse_attention import FuseAttention
from .fuse_embedding import FuseEmbedding
from .fuse_gqa import FuseGqa
from .fuse_quantized_embedding import FuseQuantizedEmbedding
from .fusion_pass import Declined, FusionResult
from .normalise_interface import NormaliseInterface
from .normalise_last_token import NormaliseLastToken
from .normalise_precision import NormalisePrecision
from .normalise_skip_norm import NormaliseSkipNorm
from .opset import DOMAIN
from .quantize_matmul import QuantizeMatMul, Quantizer, round_to_nearest
from .requantise_matmul_nbits import RequantiseMatMulNBits
from .split_packed_projections import SplitPackedProjections


class FusionError(Exception):
    """A model that we know did not fuse as it must."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run of the passes did.

    Attributes:
        counts: nodes of our domain in the model afterwards, by op type.
        declines: candidates that were left as they are, with reason and value.
        modified: the run changed the model.
    """

    counts: dict[str, int]
    declines: tuple[Declined, ...]
    modified: bool

    def expect(self, num_layers: int) -> None:
        """Checks a text decoder with a tied head: 7 projections and one attention a layer, one head, one embedding.

        Raises:
            FusionError: names what is missing or too much, and why candidates were declined.
        """
        flow = self.counts.get("FlowQKV", 0) + self.counts.get("FlowKV", 0)
        found = {"MatMulNBits": self.counts.get("MatMulNBits", 0), "FlowQKV | FlowKV": flow}
        found["EmbedNBits"] = self.counts.get("EmbedNBits", 0)
        wanted = {"MatMulNBits": 7 * num_layers + 1, "FlowQKV | FlowKV": num_layers, "EmbedNBits": 1}
        wrong = [f"{op}: {found[op]} nodes, expected {count}" for op, count in wanted.items() if found[op] != count]
        if wrong:
            raise FusionError("\n  ".join(["the model did not fuse:", *wrong, *map(str, self.declines)]))


def fuse(
    model: ir.Model,
    *,
    kv_dtype: ir.DataType = ir.DataType.FLOAT16,
    head_bits: int = 4,
    quantizer: Quantizer = round_to_nearest,
) -> Report:
    """Rewrites a standard Gemma3 graph into the fused form, in place.

    Args:
        model: opset 23, float32, batch 1; weights may be lazy tensors, and stay lazy.
        kv_dtype: element type of the KV cache, FLOAT16 or FLOAT.
        head_bits: 4, or 8 for a head (and embedding) in 8 bits.
        quantizer: makes the blocks when the model is written.

    Returns:
        The report. Running it again changes nothing.
    """
    passes: list[ir.passes.PassBase] = [
        NormaliseInterface(),
        NormalisePrecision(),
        NormaliseSkipNorm(),
        NormaliseLastToken(),
        SplitPackedProjections(),
        FuseGqa(kv_dtype),
        FuseAttention(kv_dtype),
        RequantiseMatMulNBits(),
        QuantizeMatMul(head_bits, quantizer),
        FuseEmbedding(),
        FuseQuantizedEmbedding(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        DeclareOperators(),
        common.TopologicalSortPass(),
    ]
    declines: list[Declined] = []
    modified = False
    for one in passes:
        result = one(model)
        modified |= result.modified
        if isinstance(result, FusionResult):
            declines += result.declines
    counts = collections.Counter(node.op_type for node in model.graph if node.domain == DOMAIN)
    return Report(dict(counts), tuple(declines), modified)
