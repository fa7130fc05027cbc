"""A list of access patterns over one tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from .tap import TensorAccessPattern, as_tensor_dims

StepFn = Callable[[int, Any], Any] | None


class TensorAccessSequence(MutableSequence[TensorAccessPattern], Iterable[TensorAccessPattern]):
    """Patterns in the order in which they are used, given by constants or by functions of the step."""

    def __init__(
        self,
        tensor_dims: Sequence[int],
        num_steps: int,
        offset: int | None = None,
        sizes: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        offset_fn: StepFn = None,
        sizes_fn: StepFn = None,
        strides_fn: StepFn = None,
    ) -> None:
        self._tensor_dims = as_tensor_dims(tensor_dims)
        if num_steps < 0:
            raise ValueError(f"Number of steps must be positive (but is {num_steps})")
        given: dict[str, tuple[Any, StepFn]] = {
            "offset": (offset, offset_fn),
            "sizes": (sizes, sizes_fn),
            "strides": (strides, strides_fn),
        }
        if num_steps == 0 and any(part is not None for pair in given.values() for part in pair):
            raise ValueError("If num_steps=0, no sizes/strides/offset information may be specified")
        for name, (value, function) in given.items():
            if num_steps and value is None and function is None:
                raise ValueError(f"{name} must be provided if {name}_fn is None")
        current = {name: value for name, (value, _) in given.items()}
        self._taps: list[TensorAccessPattern] = []
        for step in range(num_steps):
            for name, (_, function) in given.items():
                if function is not None:
                    current[name] = function(step, current[name])
            self._taps.append(
                TensorAccessPattern(self._tensor_dims, current["offset"], current["sizes"], current["strides"])
            )

    @classmethod
    def from_taps(cls, taps: Sequence[TensorAccessPattern]) -> TensorAccessSequence:
        """A sequence of given patterns."""
        if not taps:
            raise ValueError(
                "Received no TensorAccessPatterns; must have at least one to create a TensorAccessSequence."
            )
        sequence = cls(taps[0].tensor_dims, 0)
        for tap in taps:
            sequence.append(tap)
        return sequence

    def access_count(self) -> np.ndarray:
        """For each element how often all patterns together visit it."""
        return np.sum([tap.access_count() for tap in self._taps], axis=0)

    def compare_access_orders(self, other: TensorAccessSequence) -> bool:
        """Whether both visit the same elements in the same order, step by step."""
        return len(self) == len(other) and all(a.compare_access_orders(b) for a, b in zip(self, other, strict=True))

    def _checked(self, tap: TensorAccessPattern) -> TensorAccessPattern:
        if list(self._tensor_dims) != list(tap.tensor_dims):
            raise ValueError(
                f"Cannot add TensorAccessPattern with tensor dims {tap.tensor_dims} to TensorAccessSequence with "
                f"tensor dims {self._tensor_dims}"
            )
        return deepcopy(tap)

    def __contains__(self, tap: object) -> bool:
        return tap in self._taps

    def __iter__(self) -> Iterator[TensorAccessPattern]:
        return iter(self._taps)

    def __len__(self) -> int:
        return len(self._taps)

    def __getitem__(self, idx: Any) -> Any:
        return self._taps[idx]

    def __setitem__(self, idx: Any, tap: Any) -> None:
        self._taps[idx] = self._checked(tap)

    def __delitem__(self, idx: Any) -> None:
        del self._taps[idx]

    def insert(self, index: int, value: TensorAccessPattern) -> None:
        """Puts a pattern before step `index`."""
        self._taps.insert(index, self._checked(value))

    def __eq__(self, other: object) -> bool:
        return self._taps == other._taps if isinstance(other, TensorAccessSequence) else False

    __hash__ = None  # type: ignore[assignment]
