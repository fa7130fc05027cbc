"""The host-compiled tile kernels as the simulator calls them: on the L1 buffers themselves."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from ..aie_emulation.host_library import HostLibrary, load

MOST_POINTERS = 1 << 14  # kept arrays are kept memory


class CompiledKernels:
    """Functions of the shared library; see kernels/aie_emulation for what they compute and count."""

    def __init__(self, library: HostLibrary | None = None) -> None:
        self.library = load() if library is None else library
        self._pointers: dict[int, tuple[np.ndarray, ctypes.c_void_p]] = {}  # the array keeps its id from being reused

    def function(self, contract: Any) -> Callable[..., None]:
        """The function of a contract's symbol, taking numpy views and ints."""
        return self.symbol(contract.symbol)

    def symbol(self, symbol: str) -> Callable[..., None]:
        """The function of a symbol."""
        if symbol not in self.library:
            raise KeyError(
                f"{symbol} is not in {self.library.path}: add its source to kernels/CMakeLists.txt and build"
            )
        function = getattr(self.library._library, symbol)
        function.restype = None

        def call(*arguments: Any) -> None:
            function(*[self._argument(argument) for argument in arguments])

        return call

    def _argument(self, argument: Any) -> Any:
        if not isinstance(argument, np.ndarray):
            return ctypes.c_int32(argument)
        known = self._pointers.get(id(argument))
        if known is None:
            if len(self._pointers) >= MOST_POINTERS:
                self._pointers.clear()
            known = self._pointers[id(argument)] = (argument, ctypes.c_void_p(argument.ctypes.data))
        return known[1]
