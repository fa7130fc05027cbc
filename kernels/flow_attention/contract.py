"""The contracts of both attentions' tile kernels."""

from __future__ import annotations

from ..contract import KernelContract
from .flow_kv_contract import FLOW_KV
from .flow_qkv_contract import FLOW_QKV

CONTRACTS: tuple[KernelContract, ...] = (*FLOW_QKV, *FLOW_KV)
