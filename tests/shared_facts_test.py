"""Facts that Python and C++ both write down are the same."""

from __future__ import annotations

import re
from pathlib import Path

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx

_ROOT = Path(__file__).parents[1]


def test_q4nx_layout() -> None:
    header = (_ROOT / "kernels/q4nx.h").read_text(encoding="utf-8")
    found: dict[str, int] = {}
    for name, expression in re.findall(r"constexpr int64_t k(\w+) = ([^;]+);", header):
        found[name] = eval(re.sub(r"k(\w+)", r"\1", expression).replace("/", "//"), {}, found)
    assert found == {
        "BlockRows": q4nx.BLOCK_ROWS,
        "BlockCols": q4nx.BLOCK_COLS,
        "GroupSize": q4nx.GROUP_SIZE,
        "GroupsPerBlock": q4nx.GROUPS_PER_BLOCK,
        "ScaleOffset": q4nx.SCALE_OFFSET,
        "MinOffset": q4nx.MIN_OFFSET,
        "NibbleOffset": q4nx.NIBBLE_OFFSET,
        "CodeOffset": q4nx.CODE_OFFSET,
        "BlockBytes4": q4nx.BLOCK_BYTES[4],
        "BlockBytes8": q4nx.BLOCK_BYTES[8],
    }
