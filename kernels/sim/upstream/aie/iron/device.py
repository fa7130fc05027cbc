"""The XDNA2 array as the placer sees it: tiles by coordinate, and the DMA channels of each kind."""

from __future__ import annotations

SHIM_ROW, MEM_ROW, FIRST_CORE_ROW, ROWS = 0, 1, 2, 6


class Tile:
    """A tile, by column and row."""

    def __init__(self, col: int, row: int, allocation_scheme: str | None = None) -> None:
        self.col = col
        self.row = row
        self.allocation_scheme = allocation_scheme

    def __eq__(self, other: object) -> bool:
        return self.col == other.col and self.row == other.row if isinstance(other, Tile) else NotImplemented

    def __str__(self) -> str:
        return f"Tile({self.col}, {self.row})"

    __repr__ = __str__

    def __hash__(self) -> int:
        return hash((self.col, self.row))


class AnyShimTile:
    """To be placed on some shim tile."""


class AnyMemTile:
    """To be placed on some mem tile."""


class AnyComputeTile:
    """To be placed on some compute tile."""


PlacementTile = Tile | AnyShimTile | AnyMemTile | AnyComputeTile


class Device:
    """A partition of the array: `columns` wide, all rows."""

    _columns = 8

    def __init__(self) -> None:
        pass

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return ROWS

    @property
    def cols(self) -> int:
        """Columns of tiles."""
        return self._columns

    def get_shim_tiles(self) -> list[Tile]:
        """The tiles that reach DDR."""
        return [Tile(col, SHIM_ROW) for col in range(self._columns)]

    def get_mem_tiles(self) -> list[Tile]:
        """The 512 KB tiles."""
        return [Tile(col, MEM_ROW) for col in range(self._columns)]

    def get_compute_tiles(self) -> list[Tile]:
        """The cores, column by column."""
        return [Tile(col, row) for col in range(self._columns) for row in range(FIRST_CORE_ROW, ROWS)]

    def get_num_connections(self, tile: Tile, output: bool) -> int:
        """DMA channels of the tile in a direction."""
        return 6 if tile.row == MEM_ROW else 2


class NPU2(Device):
    """Strix, Strix Halo, Krackan: 8 columns."""


class NPU2Col1(Device):
    """One column."""

    _columns = 1


class NPU2Col2(Device):
    """Two columns."""

    _columns = 2


class NPU2Col3(Device):
    """Three columns."""

    _columns = 3


class NPU2Col4(Device):
    """Four columns."""

    _columns = 4


class NPU2Col5(Device):
    """Five columns."""

    _columns = 5


class NPU2Col6(Device):
    """Six columns."""

    _columns = 6


class NPU2Col7(Device):
    """Seven columns."""

    _columns = 7
