"""The fixtures by name: which exporter makes each, and with which options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["VARIANTS", "Variant"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One exporter with one set of options.

    Attributes:
        exporter: a name of `environments.VERSIONS`.
        options: of the exporter's script.
        config: what the model has otherwise than `tiny_model.CONFIG`.
        oddity: what a reader of the graph would not expect.
        exact: the fixture has the exporter's own bytes; false where round-to-nearest codes stand for searched ones.
    """

    exporter: str
    options: tuple[str, ...] = ()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    oddity: str = ""
    exact: bool = True


def _genai(precision: str, *options: str, provider: str = "cpu", oddity: str = "", exact: bool = True) -> Variant:
    arguments = ("--precision", precision, "--provider", provider)
    return Variant(
        "genai_builder", (*arguments, *(("--options", *options) if options else ())), oddity=oddity, exact=exact
    )


# As 4B and larger have it, in the global layers only.
_SCALED_ROPE = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}

VARIANTS: dict[str, Variant] = {
    "genai_fp32": _genai(
        "fp32",
        oddity="embedding scale rounded to two decimals; sliding caches have a name of their own for their length",
    ),
    "genai_fp32_separate": _genai(
        "fp32",
        "fuse_qkv=false",
        "shared_embeddings=false",
        oddity="the head is a copy of the embedding",
    ),
    "genai_fp16": _genai(
        "fp16",
        "fuse_qk_norm_gqa=false",
        provider="cuda",
        oddity="norms in float32 between casts",
    ),
    "genai_fp16_cuda": _genai(
        "fp16",
        provider="cuda",
        oddity="QK-norm is inside GroupQueryAttention (inputs 14 and 15)",
    ),
    "genai_bf16_cuda": _genai("bf16", provider="cuda", oddity="as genai_fp16_cuda; logits are cast to float32"),
    "genai_fp16_dml": _genai(
        "fp16",
        provider="dml",
        oddity="com.microsoft RotaryEmbedding beside GroupQueryAttention; position_ids; no packed QKV",
    ),
    "genai_int4": _genai("int4", oddity="embedding and head share the codes: Reshape, then GatherBlockQuantized"),
    "genai_int4_level0": _genai("int4", "accuracy_level=0", oddity="no attribute accuracy_level"),
    "genai_int4_block128": _genai("int4", "block_size=128"),
    "genai_int4_asymmetric": _genai(
        "int4",
        "is_symmetric=false",
        "shared_embeddings=false",
        oddity="zero points, two to a byte; with shared embeddings the builder makes an invalid graph",
    ),
    "genai_int4_k_quant_mixed": _genai(
        "int4",
        "algo_config=k_quant",
        "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8",
        oddity="8 bits in the head and in some qkv_proj and down_proj",
        exact=False,
    ),
    "genai_int4_separate": _genai("int4", "fuse_qkv=false"),
    "genai_int4_gate_up": _genai("int4", "fuse_mlp_gate_up=true", oddity="gate and up are one MatMulNBits and a Split"),
    "genai_int4_untied": _genai("int4", "shared_embeddings=false", oddity="float32 embedding beside an int4 head"),
    "genai_int4_prune": _genai("int4", "prune_lm_head=true", oddity="the last position only"),
    "genai_int4_growing": _genai(
        "int4", "windowed_kv_cache=false", oddity="no attribute sliding_window_cache: every cache grows"
    ),
    "genai_int4_cuda": _genai(
        "int4", provider="cuda", oddity="float16 scales, input and output; QK-norm as in genai_fp16_cuda"
    ),
    "optimum": Variant(
        "optimum_export",
        oddity="everything spelled out; sqrt(scale) on both sides; the head is a copy of the embedding",
    ),
    "optimum_scaled": Variant("optimum_export", config=_SCALED_ROPE, oddity="the factor is inside inv_freq"),
    "torch_dynamo_23": Variant(
        "torch_dynamo",
        ("--opset", "23"),
        oddity="each cache input has a length symbol of its own; cos and sin are computed in every layer",
    ),
    "torch_dynamo_20": Variant(
        "torch_dynamo", ("--opset", "20"), oddity="as 23, with norms, RoPE, attention spelled out"
    ),
    "mobius": Variant("mobius_export", oddity="1 + w computed in the graph; embedding scale rounded to bfloat16"),
    "mobius_scaled": Variant("mobius_export", config=_SCALED_ROPE),
    "mobius_cpu": Variant(
        "mobius_export",
        ("--ep", "cpu", "--runtime", "ort-genai"),
        oddity="wrong as Gemma3: no window, and the local RoPE base in every layer; must run as written",
    ),
    "own": Variant("own_export", oddity="logits of the last position only"),
    "own_all": Variant("own_export", ("--logits", "all")),
}
