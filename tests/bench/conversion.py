"""How long converting takes and how much memory, on random weights in the shape of a real model.

    python -m tests.bench.conversion [--size 1b] [--layers N] [--ways rtn search calibrate] [--json]

Each way runs as the command `convert` in a process of its own. With --layers the model has only its first N layers:
what one layer costs is the difference of two such runs, and a whole model that would take hours can be estimated.
The head is in 8 bits, as by default.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from onnxruntime_ep_ryzen_npu_gemma.console import table
from tests.bench import texts
from tests.bench.random_model import SIZES, write_random_model

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "build/bench/conversion"


def main() -> int:
    """Makes the model if it is not there, converts it, prints the table."""
    ways = {
        "rtn": ("--quantizer", "rtn"),
        "search": ("--quantizer", "search"),
        "calibrate": ("--calibrate", str(texts.devil())),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="1b")
    parser.add_argument("--layers", type=int, metavar="N", help="default: all")
    parser.add_argument("--ways", nargs="+", choices=ways, default=["rtn", "search"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    layers = args.layers or SIZES[args.size][1]
    source = _FOLDER / f"{args.size}-{layers}"
    if not source.is_dir():
        part = source.with_name("part")
        shutil.rmtree(part, ignore_errors=True)
        write_random_model(args.size, part, layers)
        part.rename(source)
    results = [{"size": args.size, "layers": layers, "way": way, **_convert(source, ways[way])} for way in args.ways]
    if args.json:
        print(json.dumps(results))
    else:
        rows = [[str(r["layers"]), r["way"], f"{r['seconds']:.1f}", f"{r['peak_bytes'] / 1e9:.2f}"] for r in results]
        print(table(("layers", "way", "seconds", "peak GB"), rows, right=frozenset(("layers", "seconds", "peak GB"))))
    return 0


def _convert(source: Path, options: tuple[str, ...]) -> dict[str, Any]:
    out = _FOLDER / "out"
    command = [sys.executable, "-m", "onnxruntime_ep_ryzen_npu_gemma", "convert", str(source), str(out), "--force"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    shutil.rmtree(out, ignore_errors=True)
    if status:
        raise SystemExit(f"convert failed with {os.waitstatus_to_exitcode(status)}")
    return {"seconds": round(seconds, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_bytes": usage.ru_maxrss * 1024}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
