"""How many instructions each row of each kernel table takes on a small fixed shape, by callgrind.

    python -m tests.kernels.instruction_counts [--write] [--program FILE]      after a build of the preset dev

--write keeps the counts in instruction_counts.json, under the compiler and C library: others take other
instructions. Rows that valgrind cannot run (AVX-512) are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["TABLE", "Missing", "committed", "count"]

TABLE = Path(__file__).with_suffix(".json")
_PROGRAM = Path(__file__).parents[2] / "build/dev/tests/kernels/bench/instruction_counts"


class Missing(Exception):
    """What is needed to count is not on this machine."""


def count(program: Path = _PROGRAM) -> tuple[str, dict[str, int], list[str]]:
    """Runs the program under callgrind.

    Returns:
        The compiler and C library that it is of, the count of each case, and the cases that could not run.

    Raises:
        Missing: no valgrind, or no program.
    """
    if shutil.which("valgrind") is None:
        raise Missing("valgrind is not installed (apt-get install valgrind)")
    if not program.is_file():
        raise Missing(f"{program} is not built (cmake --build --preset dev, with valgrind's headers installed)")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}"]
        run = subprocess.run(
            [*valgrind, program], capture_output=True, text=True, env={**os.environ, "LD_BIND_NOW": "1"}
        )
        if run.returncode:
            raise RuntimeError(f"{program}: code {run.returncode}\n{run.stderr}")
        lines = [line.split("\t") for line in run.stdout.splitlines()]
        counts = dict(_read(dump) for dump in Path(folder).glob("counts.*"))
    (toolchain,) = (name for kind, name in lines if kind == "toolchain")
    counted = [name for kind, name in lines if kind == "counted"]
    return toolchain, {name: counts[name] for name in counted}, [name for kind, name in lines if kind == "unsupported"]


def committed() -> dict[str, dict[str, int]]:
    """The counts of instruction_counts.json, by compiler and C library."""
    table: dict[str, dict[str, int]] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    return table


def _read(dump: Path) -> tuple[str, int]:
    """The case and the count of one of callgrind's dumps."""
    text = dump.read_text(encoding="utf-8")
    name, total = re.search(r"Client Request: (.*)", text), re.search(r"^(?:totals|summary): (\d+)", text, re.M)
    assert name is not None and total is not None, dump
    return name[1], int(total[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--program", type=Path, default=_PROGRAM, help="default %(default)s")
    args = parser.parse_args()
    toolchain, counts, unsupported = count(args.program)
    table = committed()
    for name, instructions in counts.items():
        before = table.get(toolchain, {}).get(name)
        change = f"{instructions / before - 1:+.1%}" if before else "new"
        print(f"{instructions:9}  {change:>7}  {name}")
    for name in unsupported:
        print(f"{'-':>9}  {'':7}  {name}: not on valgrind's processor")
    if args.write:
        TABLE.write_text(json.dumps(table | {toolchain: counts}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
