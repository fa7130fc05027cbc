"""Things that get a tile."""

from __future__ import annotations

from typing import Any

from .device import Tile


class Placeable:
    """Something that a placer puts on a tile."""

    def __init__(self, tile: Any) -> None:
        self._tile = tile

    def place(self, tile: Tile) -> None:
        """Gives it its tile, once."""
        if isinstance(self._tile, Tile):
            raise AlreadyPlacedError(type(self), self._tile, tile)
        self._tile = tile

    @property
    def tile(self) -> Any:
        """Its tile, or the kind of tile it waits for."""
        return self._tile


class AlreadyPlacedError(Exception):
    """A second tile for something placed."""

    def __init__(self, cls: type, current_tile: Tile, new_tile: Tile) -> None:
        super().__init__(f"{cls} already placed at {current_tile}; cannot place at {new_tile}")
