"""Ours beside llama.cpp, onnxruntime-genai and OpenVINO GenAI, on the same weights, in turns; prints README's table.

    python -m tests.bench.peers --model 270m|1b [--cells decode@64 prefill@512 start ...] [--json] [--plot FILE]

Installs the peers into build/peers/ and converts their models there (torch, a C++ compiler, 10 GB; once). Every cell
is measured in rounds, each contestant in turn. What was measured is kept in build/peers/MODEL.json: cells can be
measured in several calls, on a quiet machine, and the table is of all of them; --rounds 0 only shows it.

decode@N: greedy tokens after N tokens. prefill@N: a prompt of N until the token after it is known. start: a fresh
process; seconds from the first call of the loaded library to the first token, with the files in the page cache, and
its peak resident memory with a context of 4096, after a prompt of 2048. Where `kernel_bench` of the preset release is
built, the bandwidth of memory is measured between the rounds too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench.peers.contest import CELLS, CONTESTANTS, measure
from tests.bench.peers.results import Results


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("270m", "1b"), required=True)
    cells, names = [cell.name for cell in CELLS], [contestant.name for contestant in CONTESTANTS]
    parser.add_argument("--cells", nargs="+", choices=cells, default=cells, metavar="CELL", help=", ".join(cells))
    parser.add_argument("--only", nargs="+", metavar="TEXT", help=f"contestants with this in their names: {names}")
    parser.add_argument("--rounds", type=int, default=5, help="after one that warms up (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="default %(default)s")
    parser.add_argument("--decode-tokens", type=int, default=32, help="a round (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the file of results")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it (.png, .svg; needs matplotlib)")
    args = parser.parse_args()
    contestants = [c for c in CONTESTANTS if not args.only or any(text in c.name for text in args.only)]
    if not contestants:
        parser.error(f"no contestant has {args.only} in its name; there are {', '.join(names)}")
    results = Results(args.model)
    for cell in CELLS if args.rounds else ():
        if cell.name in args.cells:
            how = {"rounds": args.rounds, "threads": args.threads, "decode_tokens": args.decode_tokens}
            results.add(list(measure(args.model, cell, contestants, **how)), args.threads)
    print(json.dumps(results.data) if args.json else results.table())
    if args.plot:
        results.plot(args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
