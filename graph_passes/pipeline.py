"""The passes in their order, and the report of a run."""

from __future__ import annotations

__all__ = ["FusionError", "Report", "fuse"]

import collections
import dataclasses
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes import common

from .declare_operators import DeclareOperators
from .drop_position_ids import DropPositionIds
from .fold_constants import FoldConstants
from .fuse_attention import FuseAttention
from .fuse_embedding import FuseEmbedding
from .fuse_gqa import FuseGqa
from .fuse_quantized_embedding import FuseQuantizedEmbedding
from .fusion_pass import Declined, FusionResult
from .infer_shapes import InferShapes
from .last_logits import LastLogits
from .normalise_attention import NormaliseAttention
from .normalise_gelu import NormaliseGelu
from .normalise_interface import NormaliseInterface
from .normalise_last_token import NormaliseLastToken
from .normalise_precision import NormalisePrecision
from .normalise_rms_norm import NormaliseRmsNorm
from .normalise_rope import NormaliseRope
from .normalise_skip_norm import NormaliseSkipNorm
from .opset import DOMAIN
from .quantize_matmul import QuantizeMatMul, Quantizer, round_to_nearest
from .requantise_matmul_nbits import RequantisedWeights, RequantiseMatMulNBits
from .split_packed_projections import SplitPackedProjections
from .tie_head import TieHead
from .upgrade_opset import UpgradeOpset


class FusionError(Exception):
    """A model that we know did not fuse as it must."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run of the passes did.

    Attributes:
        counts: nodes of our domain in the model afterwards, by op type.
        declines: candidates that were left as they are, with reason and value.
        modified: the run changed the model.
        requantised: the weights that another quantiser's codes became; each knows its error once it has been read.
    """

    counts: dict[str, int]
    declines: tuple[Declined, ...]
    modified: bool
    requantised: tuple[RequantisedWeights, ...] = ()

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
    quantize: bool = True,
    logits: Literal["last"] | None = None,
) -> Report:
    """Rewrites an exported Gemma3 graph into the fused form, in place.

    Args:
        model: of our own export or another's, opset 18 or newer; weights may be lazy tensors, and stay lazy.
        kv_dtype: element type of the KV cache, FLOAT16 or FLOAT.
        head_bits: 4, or 8 for a head (and embedding) in 8 bits.
        quantizer: makes the blocks when the model is written.
        quantize: False leaves float weights as they are, for comparisons.
        logits: "last" makes logits of a call's last position alone; None keeps what the graph has.

    Returns:
        The report. Running it again changes nothing.

    Raises:
        FusionError: the graph's opset is too old.
    """
    weights: list[ir.passes.PassBase] = [
        RequantiseMatMulNBits(),
        QuantizeMatMul(head_bits, quantizer),
        FuseEmbedding(head_bits, quantizer),
        FuseQuantizedEmbedding(),
    ]
    passes: list[ir.passes.PassBase] = [
        NormaliseInterface(),
        NormalisePrecision(),
        DropPositionIds(),
        NormaliseSkipNorm(),
        UpgradeOpset(),
        FoldConstants(),
        InferShapes(),
        FoldConstants(),
        NormaliseRmsNorm(),
        NormaliseGelu(),
        NormaliseLastToken(),
        SplitPackedProjections(),
        FuseGqa(kv_dtype),
        NormaliseRope(),
        NormaliseAttention(),
        common.RemoveUnusedNodesPass(),
        FuseAttention(kv_dtype),
        common.RemoveUnusedNodesPass(),
        *([LastLogits()] if logits == "last" else []),
        TieHead(),
        *(weights if quantize else []),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        DeclareOperators(),
        common.TopologicalSortPass(),
    ]
    declines: list[Declined] = []
    modified = False
    for one in passes:
        try:
            result = one(model)
        except ir.passes.InvariantError as error:
            raise FusionError(f"{type(one).__name__}: {error}") from error
        modified |= result.modified
        if isinstance(result, FusionResult):
            declines += result.declines
    counts = collections.Counter(node.op_type for node in model.graph if node.domain == DOMAIN)
    weights_found = (value.const_value for value in model.graph.initializers.values())
    requantised = tuple(tensor for tensor in weights_found if isinstance(tensor, RequantisedWeights))
    return Report(dict(counts), tuple(declines), modified, requantised)
