"""Compiled functions that cores call."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _trace
from .._trace import Call, Value, as_value, name_of
from .buffer import Buffer
from .dtype import array_dtype, array_shape


def _is_scalar(kind: Any) -> bool:
    return isinstance(kind, np.dtype) or (isinstance(kind, type) and issubclass(kind, np.generic))


class BaseKernel:
    """A function of an object file, with the types of its arguments."""

    def __init__(self, name: str, arg_types: list[Any] = []) -> None:  # noqa: B006  upstream's signature
        if not name:
            raise ValueError("Kernel name cannot be empty.")
        self._name = name
        self._arg_types = arg_types

    def tile_size(self, arg_index: int = 0) -> int:
        """First dimension of an array argument."""
        if not self._arg_types:
            raise ValueError("No argument types defined.")
        if arg_index >= len(self._arg_types):
            raise ValueError(f"Argument index {arg_index} out of range (max: {len(self._arg_types) - 1})")
        if _is_scalar(self._arg_types[arg_index]):
            raise ValueError(f"Argument {arg_index} does not have a shape or is not an array type.")
        return array_shape(self._arg_types[arg_index])[0]

    def arg_types(self) -> list[Any]:
        """Types of the arguments."""
        return self._arg_types.copy()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Records a call; the types must be exactly those declared, as MLIR wants them."""
        if kwargs:
            raise TypeError(f"kernel {self._name}: keyword arguments {sorted(kwargs)} are not simulated")
        current = _trace.recorder(f"kernel {self._name}")
        if len(args) != len(self._arg_types):
            raise ValueError(
                f"Kernel '{self._name}' expects {len(self._arg_types)} argument(s), but {len(args)} were provided."
            )
        converted = tuple(
            self._argument(i, given, kind) for i, (given, kind) in enumerate(zip(args, self._arg_types, strict=True))
        )
        current.emit(Call(self, converted))

    def _argument(self, position: int, given: Any, kind: Any) -> Any:
        where = f"kernel {self._name}, argument {position}"
        if _is_scalar(kind):
            if isinstance(given, _trace.Element | Buffer):
                raise TypeError(f"{where}: declared as scalar {name_of(kind)}, given {given._label}")
            value = as_value(given, np.dtype(kind))
            if value.dtype != np.dtype(kind):
                hint = ": convert a loop counter with aie.extras.dialects.arith.index_cast(i, to=T.i32())"
                raise TypeError(
                    f"{where}: declared {name_of(kind)}, given {value} of type {name_of(value.dtype)}"
                    + (hint if value.dtype == _trace.INDEX else "")
                )
            return value
        if isinstance(given, list | Value) or not hasattr(given, "shape"):
            raise TypeError(
                f"{where}: declared {kind}, given {given!r}: acquire(n) with n > 1 gives a list of elements"
            )
        expected, found = (array_shape(kind), array_dtype(kind)), (tuple(given.shape), np.dtype(given.dtype))
        if expected != found:
            raise TypeError(
                f"{where}: declared {expected[0]} {name_of(expected[1])}, but {given._label} has {found[0]} "
                f"{name_of(found[1])}; a FIFO's type and a kernel's must be the same, shape included"
            )
        return given


class Kernel(BaseKernel):
    """A function of a compiled object file."""

    def __init__(self, name: str, object_file_name: str, arg_types: list[Any] = []) -> None:  # noqa: B006
        super().__init__(name, arg_types)
        self._object_file_name = object_file_name

    @property
    def object_file_name(self) -> str:
        """The object file."""
        return self._object_file_name


class ExternalFunction(Kernel):
    """A function that is compiled from C++ source with the design."""

    def __init__(
        self,
        name: str,
        object_file_name: str | None = None,
        source_file: str | None = None,
        source_string: str | None = None,
        arg_types: list[Any] = [],  # noqa: B006
        include_dirs: list[str] = [],  # noqa: B006
        compile_flags: list[str] = [],  # noqa: B006
    ) -> None:
        super().__init__(name, object_file_name or f"{name}.o", arg_types)
        if source_file is None and source_string is None:
            raise ValueError("source_file or source_string must be provided.")
        self._source_file = source_file
        self._source_string = None if source_file is not None else source_string
        self._include_dirs = include_dirs
        self._compile_flags = compile_flags
