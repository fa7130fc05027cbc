"""What a kernel is to the simulator: something to call on real buffers, and the cycles a call takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import DesignError


@dataclass(frozen=True)
class KernelModel:
    """A kernel.

    Attributes:
        run: Called with the design's arguments: numpy views of L1 buffers, and ints.
        cycles: Of one call: the busiest issue slot, as a contract counts it (a compiled kernel takes longer, see
            hardware.Times.bundles_per_slot); a number, or a function of the call's scalar arguments in their order.
    """

    run: Callable[..., Any] | None = None
    cycles: float | Callable[..., float] | None = None


Kernels = Mapping[str, KernelModel | Callable[..., Any]]


def model_of(kernels: Kernels, symbol: str) -> KernelModel:
    """The model of a symbol; a plain callable is its `run`."""
    if symbol not in kernels:
        raise DesignError(
            "unknown kernel",
            where=f"kernel {symbol}",
            found="no model of it",
            limit=f"known: {', '.join(sorted(kernels)) or 'none'}",
            do="Pass it in kernels={symbol: KernelModel(run=…, cycles=…)}.",
        )
    found = kernels[symbol]
    return found if isinstance(found, KernelModel) else KernelModel(run=found)


def from_contracts(
    contracts: Mapping[str, Any] | tuple[Any, ...], shapes: Mapping[str, Mapping[str, int]], library: Any = None
) -> dict[str, KernelModel]:
    """Models of kernels that have a contract.

    Args:
        contracts: KernelContract objects.
        shapes: For each symbol the sizes that the design fixes; sizes that are scalar arguments come from each call.
        library: Gives the compiled function: `library.function(contract)` (see compiled.py); None: time mode only.
    """
    models = {}
    for contract in contracts.values() if isinstance(contracts, Mapping) else contracts:
        fixed = dict(shapes.get(contract.symbol, {}))
        scalars = [arg.name for arg in contract.args if arg.role == "scalar"]
        models[contract.symbol] = KernelModel(
            run=None if library is None else library.function(contract),
            cycles=_cycles_of(contract, scalars, fixed),
        )
    return models


def _cycles_of(contract: Any, scalars: list[str], fixed: dict[str, int]) -> Callable[..., float]:
    def cycles(*given: int) -> float:
        return float(contract.cycles(**{**fixed, **dict(zip(scalars, given, strict=True))}))

    return cycles
