"""What `fast` adds to Q4NX's error by rounding scales and centres; prints a table of docs/accuracy.md.

    python -m tests.bench.accuracy.rounded_scales [MODEL]        # the 270M with a 5-bit head of tests.bench.peers

A weight is scale * (q - 7.5) + centre. Codes are off by a uniform error, of variance scale^2 / 12; a rounded scale adds
its own error times the variance of q - 7.5, a rounded centre its own. Shares of the first are printed.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from tests.bench.roofline import markdown_table

_ROOT = Path(__file__).parents[3]
_SPLITS = {
    "8 and 8, signed": (127, 127),
    "7 and 9": (127, 255),
    "6 and 10": (63, 511),
    "6 and 6": (63, 31),
}  # largest codes
_ROWS = 16384  # of a matrix are enough


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=_ROOT / "build/peers/models/270m/ours-q4-head")
    model = ir.load(parser.parse_args().model / "model.onnx")
    shares = defaultdict(list)
    for node in model.graph:
        if node.op_type == "MatMulNBits" and node.attributes.get_int("bits", 4) == 4:
            kind = next(
                (kind for kind in ("down", "gate", "up", "o", "q", "k", "v") if f".{kind}_proj" in node.name), "head"
            )
            shares[kind].append(_shares(node))
    rows = []
    for kind, values in shares.items():
        of_scale, of_centre = np.mean(values, axis=0)
        rows.append((kind, *(f"{s:.2%} + {c:.2%}" for s, c in zip(of_scale, of_centre, strict=True))))
    print(markdown_table(("matrix", *_SPLITS), rows))
    return 0


def _shares(node: ir.Node) -> tuple[list[float], list[float]]:
    """For each split what the scales and what the centres add, in variances of the codes' error."""
    weight = node.inputs[1]
    assert weight is not None and weight.const_value is not None
    K = node.attributes.get_int("K", 0)
    N = min(node.attributes.get_int("N", 0), _ROWS)
    blocks = weight.const_value.numpy()[: q4nx.block_count(N, K)]
    scale_bits, min_bits, q_NK = q4nx.unpack(blocks, N, K)
    assert min_bits is not None
    scale = q4nx.from_bfloat16(scale_bits).astype(np.float64)
    centre = q4nx.from_bfloat16(min_bits) + 7.5 * scale
    codes = float(np.mean((q_NK - 7.5) ** 2))
    whole = float(np.mean(scale**2)) / 12
    of_scale = [codes * _error(scale, largest) / whole for largest, _ in _SPLITS.values()]
    return of_scale, [_error(centre, largest) / whole for _, largest in _SPLITS.values()]


def _error(values_NG: np.ndarray, largest_code: int) -> float:
    """Mean square of what rounding to a row's steps loses."""
    step = np.abs(values_NG).max(axis=1, keepdims=True) / largest_code
    step[step == 0] = 1
    return float(np.mean((np.rint(values_NG / step) * step - values_NG) ** 2))


if __name__ == "__main__":
    sys.exit(main())
