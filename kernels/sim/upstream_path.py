"""Which `aie` package a design imports: mlir-aie's where it is installed, else the recording one of this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

UPSTREAM = Path(__file__).parent / "upstream"


def provide_aie() -> Path | None:
    """Makes `import aie.iron` work; returns the folder of our `aie`, or None if mlir-aie is installed.

    Designs are recorded by ours only, so a machine with mlir-aie compiles and one without simulates. To simulate in
    spite of an installed mlir-aie, put `UPSTREAM` first on sys.path before anything imports `aie`.
    """
    found = importlib.util.find_spec("aie")
    if found is None:
        sys.path.append(str(UPSTREAM))
        return UPSTREAM
    here = [Path(place) for place in found.submodule_search_locations or []]
    return UPSTREAM if UPSTREAM / "aie" in here else None
