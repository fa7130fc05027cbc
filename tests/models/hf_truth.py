"""The fp32 truth of a fused model: transformers' Gemma3 in float32 on the weights that the model's Q4NX blocks hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx


def load(model_path: Path) -> Gemma3ForCausalLM:
    """Builds the Hugging Face model that the fused graph at `model_path` came from, with dequantised weights."""
    model = ir.load(model_path)
    flows = [node for node in model.graph if node.op_type in ("FlowQKV", "FlowKV")]
    matrices = [node for node in model.graph if node.op_type == "MatMulNBits"]
    weights = {_name(node): _dequantize(node) for node in matrices}
    norms = {
        name: value.const_value.numpy().astype(np.float32) - 1.0  # the graph holds 1 + w
        for name, value in model.graph.initializers.items()
        if name.endswith("norm.weight") and value.const_value is not None
    }
    head = weights.pop("model.embed_tokens")
    layers = len(flows)
    hf = Gemma3ForCausalLM(_config(flows, head.shape, weights["model.layers.0.mlp.gate_proj"].shape[0])).float().eval()
    state = {f"{name}.weight": torch.from_numpy(w) for name, w in weights.items()}
    state |= {name: torch.from_numpy(w) for name, w in norms.items()}
    state |= {"model.embed_tokens.weight": torch.from_numpy(head), "lm_head.weight": torch.from_numpy(head)}
    assert len(norms) == 6 * layers + 1, sorted(norms)
    hf.load_state_dict(state, strict=True)
    return hf


def logits(hf: Gemma3ForCausalLM, ids: list[int], first: int = 0) -> np.ndarray:
    """Logits [len(ids) - first, V] of the positions from `first` on, float32."""
    with torch.no_grad():
        keep = len(ids) - first
        return hf(torch.tensor([ids]), logits_to_keep=keep).logits[0].numpy()


def kl_divergence(truth: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL(truth || other) in nats of each position, computed in float64."""
    kl = np.empty(len(truth))
    for i, (p, q) in enumerate(zip(truth, other, strict=True)):
        log_p, log_q = _log_softmax(p), _log_softmax(q)
        kl[i] = np.sum(np.exp(log_p) * (log_p - log_q))
    return kl


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64) - x.max()
    return x - np.log(np.exp(x).sum())


def _name(node: ir.Node) -> str:
    weight = node.inputs[1]
    assert weight is not None and weight.name is not None
    return weight.name.rsplit(".weight.", 1)[0]


def _dequantize(node: ir.Node) -> np.ndarray:
    weight = node.inputs[1]
    assert weight is not None and weight.const_value is not None
    N, K = node.attributes["N"].as_int(), node.attributes["K"].as_int()
    return q4nx.dequantize(weight.const_value.numpy(), N, K)


def _config(flows: list[ir.Node], head_shape: tuple[int, ...], intermediate: int) -> Gemma3TextConfig:
    first = flows[0]
    by_kind = {node.attributes["window"].as_int() > 0: node for node in flows}
    local, full = by_kind[True], by_kind[False]
    q_norm = first.inputs[5]
    assert q_norm is not None and q_norm.const_value is not None
    factor = full.attributes["rope_factor"].as_float()
    full_rope = {"rope_type": "linear", "factor": factor} if factor != 1 else {"rope_type": "default"}
    scale = first.attributes["scale"].as_float()
    return Gemma3TextConfig(
        vocab_size=head_shape[0],
        hidden_size=head_shape[1],
        intermediate_size=intermediate,
        num_hidden_layers=len(flows),
        num_attention_heads=first.attributes["num_heads"].as_int(),
        num_key_value_heads=first.attributes["kv_num_heads"].as_int(),
        head_dim=q_norm.const_value.shape[0],
        query_pre_attn_scalar=round(scale**-2),
        sliding_window=local.attributes["window"].as_int(),
        layer_types=["sliding_attention" if n.attributes["window"].as_int() else "full_attention" for n in flows],
        rms_norm_eps=first.attributes["eps"].as_float(),
        rope_parameters={
            "full_attention": full_rope | {"rope_theta": full.attributes["rope_theta"].as_float()},
            "sliding_attention": {"rope_type": "default", "rope_theta": local.attributes["rope_theta"].as_float()},
        },
        attn_implementation="eager",
    )
