"""What each tile kernel costs in time mode: the cycles of its contract."""

from __future__ import annotations

from importlib import import_module

from ..sim import KernelModel, from_contracts

OPS = (
    "dequantize_q4nx",
    "flow_attention",
    "gelu_mul",
    "kv_store",
    "matmul_bf16",
    "matmul_nbits",
    "qk_norm_rope",
    "residual_add",
    "rms_norm",
    "tile_exchange",
)


def kernel_costs(**sizes: int) -> dict[str, KernelModel]:
    """Time-mode models of all tile kernels; `sizes` are those that a design fixes and no scalar argument carries."""
    package = __name__.rsplit(".", 2)[0]
    contracts = [c for op in OPS for c in import_module(f"{package}.{op}.contract").CONTRACTS]
    return from_contracts(tuple(contracts), {c.symbol: sizes for c in contracts})
