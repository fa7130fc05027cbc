"""A named buffer in a core's memory: state of its kernels, or run-time parameters that the sequence writes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _trace
from .dtype import array_dtype, array_shape
from .placeable import Placeable


class Buffer(Placeable):
    """Memory that lives as long as the design. With `use_write_rtp`, the runtime sequence may write elements."""

    __index = 0

    def __init__(
        self,
        type: Any = None,
        initial_value: np.ndarray | None = None,
        name: str | None = None,
        placement: Any = None,
        use_write_rtp: bool = False,
    ) -> None:
        if type is None and initial_value is None:
            raise ValueError("Must provide either type, initial value, or both.")
        if type is None:
            type = np.ndarray[initial_value.shape, np.dtype[initial_value.dtype.type]]  # type: ignore[union-attr,misc]
        self._initial_value = initial_value
        self._arr_type = type
        self._use_write_rtp = use_write_rtp
        self._sequence: list[Any] | None = None  # the runtime sequence that inline_ops is recording
        if name is None:
            name = f"buf_{Buffer.__index}"
            Buffer.__index += 1
        self._name = name
        super().__init__(placement)

    @property
    def _label(self) -> str:
        """Its name."""
        return self._name

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return array_shape(self._arr_type)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""
        return array_dtype(self._arr_type)

    def __getitem__(self, idx: Any) -> Any:
        if not _trace.is_recording():
            raise AttributeError("Cannot index into Buffer before it has been resolved.")
        return _trace.load(self, idx)

    def __setitem__(self, idx: Any, source: Any) -> None:
        if _trace.is_recording():
            if self._use_write_rtp:
                raise ValueError(
                    f"{self._label}: a use_write_rtp buffer is written by the runtime sequence, not by a core"
                )
            _trace.store(self, idx, source)
        elif self._sequence is not None:
            if not self._use_write_rtp:
                raise ValueError(
                    f"{self._label}: the runtime sequence writes only buffers made with use_write_rtp=True"
                )
            if not isinstance(idx, int | np.integer) or len(self.shape) != 1 or not 0 <= idx < self.shape[0]:
                raise ValueError(f"{self._label}: an index of the {self.shape} parameters is expected, found {idx!r}")
            if self.dtype != np.int32:
                raise ValueError(f"{self._label}: run-time parameters are int32, found {self.dtype}")
            self._sequence.append(("rtp", self, int(idx), int(source)))
        else:
            raise AttributeError("Cannot index into Buffer before it has been resolved.")
