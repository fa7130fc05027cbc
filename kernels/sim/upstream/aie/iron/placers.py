"""Placement: workers in order onto cores, the ends of their FIFOs onto mem and shim tiles nearby."""

from __future__ import annotations

import statistics
from abc import ABCMeta, abstractmethod
from typing import Any

from .dataflow import ObjectFifoHandle, ObjectFifoLink
from .device import AnyComputeTile, AnyMemTile, AnyShimTile, Device, Tile
from .worker import Worker


class Placer(metaclass=ABCMeta):
    """Assigns tiles."""

    @abstractmethod
    def make_placement(
        self, device: Device, rt: Any, workers: list[Worker], object_fifos: list[ObjectFifoHandle]
    ) -> None:
        """Gives a tile to everything that has none."""


class SequentialPlacer(Placer):
    """Core after core, column by column; FIFO ends in the columns of their cores as far as DMA channels last."""

    def __init__(self, cores_per_col: int | None = None) -> None:
        super().__init__()
        self.cores_per_col = cores_per_col

    def make_placement(
        self, device: Device, rt: Any, workers: list[Worker], object_fifos: list[ObjectFifoHandle]
    ) -> None:
        """Gives a tile to everything that has none."""
        free = device.get_compute_tiles()
        for worker in workers:
            if isinstance(worker.tile, Tile):
                if worker.tile not in free:
                    raise ValueError(
                        f"Partial Placement Error: Tile {worker.tile} not available on device "
                        f"{type(device).__name__} or has already been used."
                    )
                free.remove(worker.tile)
        if self.cores_per_col is not None:
            by_column = [[tile for tile in free if tile.col == col] for col in range(device.cols)]
            for col, tiles in enumerate(by_column):
                if len(tiles) < self.cores_per_col:
                    raise ValueError(f"Not enough compute tiles at column {col}!")
            free = [tile for tiles in by_column for tile in tiles[: self.cores_per_col]]
        used = _Channels(device)
        remaining = iter(free)
        for worker in workers:
            if worker.tile == AnyComputeTile:
                tile = next(remaining, None)
                if tile is None:
                    raise ValueError("Ran out of compute tiles for placement!")
                worker.place(tile)
            for buffer in worker.buffers:
                buffer.place(worker.tile)
            for handle in worker.fifos:
                used.take(worker.tile, handle._is_prod, 1)
        for handle in object_fifos:
            self._place_ends(device, handle, free, used)

    @staticmethod
    def _place_ends(device: Device, handle: ObjectFifoHandle, computes: list[Tile], used: _Channels) -> None:
        endpoints = handle.all_of_endpoints()
        columns = [end.tile.col for end in endpoints if isinstance(end.tile, Tile) and end.tile in computes]
        column = round(statistics.mean(columns)) if columns else 0
        kinds = {
            AnyMemTile: device.get_mem_tiles(),
            AnyShimTile: device.get_shim_tiles(),
            AnyComputeTile: device.get_compute_tiles(),
        }
        ours = handle._object_fifo._get_endpoint(is_prod=handle._is_prod)
        for end in [end for end in ours if not isinstance(end, Worker)]:
            if isinstance(end, ObjectFifoLink) or isinstance(end.tile, Tile):
                continue
            tile = used.find(kinds[end.tile], column, {handle._is_prod: 1})
            end.place(tile)
            used.take(tile, handle._is_prod, 1)
        for end in [end for end in endpoints if isinstance(end, ObjectFifoLink) and not isinstance(end.tile, Tile)]:
            needed = {True: len(end._dsts), False: len(end._srcs)}
            tile = used.find(kinds[end.tile], column, needed)
            end.place(tile)
            for output, count in needed.items():
                used.take(tile, output, count)


class _Channels:
    """DMA channels taken so far; True is out of the tile."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._taken: dict[tuple[Tile, bool], int] = {}

    def take(self, tile: Tile, output: bool, count: int) -> None:
        self._taken[tile, output] = self._taken.get((tile, output), 0) + count

    def find(self, tiles: list[Tile], column: int, needed: dict[bool, int]) -> Tile:
        """The first tile from `column` eastward with enough channels free."""
        for tile in sorted((tile for tile in tiles if tile.col >= column), key=lambda tile: tile.col):
            if all(
                self._taken.get((tile, output), 0) + count <= self._device.get_num_connections(tile, output)
                for output, count in needed.items()
            ):
                return tile
        raise ValueError(
            f"Failed to find a tile matching column {column}: tried until column {self._device.cols}. "
            "Try using a device with more columns."
        )
