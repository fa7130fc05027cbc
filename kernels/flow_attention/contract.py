"""The contracts of both attentions' tile kernels."""

from __future__ import annotations

from ..contract import KernelContract
from .flow_kv_contract import FLOW_KV

CONTRACTS: tuple[KernelContract, ...] = FLOW_KV
