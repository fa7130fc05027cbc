"""Facts that Python and C++ both write down are the same."""

from __future__ import annotations

import re
from pathlib import Path

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.opset import DOMAIN, OPERATORS

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


def test_operators() -> None:
    ep = _ROOT / "ep/src"
    policy = (ep / "policy.cc").read_text(encoding="utf-8")
    assert set(re.findall(r'\{kDomain, "(\w+)"', policy)) == set(OPERATORS)
    assert re.findall(r'kDomain = "([^"]+)"', (ep / "graph.h").read_text(encoding="utf-8")) == [DOMAIN]
    words = set(re.findall(r'"(\w+)"', policy))
    missing = {attribute.name for op in OPERATORS.values() for attribute in op.attributes} - words
    assert not missing, f"attributes that ep/src/policy.cc does not check: {missing}"


def test_readme_has_the_options_of_the_provider() -> None:
    source = (_ROOT / "ep/src/options.h").read_text(encoding="utf-8")
    table = source[source.index("kOptionDocs[] = {") : source.index("};", source.index("kOptionDocs[] = {"))]
    options = {
        key: (values.split("|"), default)
        for key, values, default in re.findall(r'\{"(\w+)",\s*"([^"]*)",\s*"([^"]*)",', table)
    }
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) ?\|", readme[readme.index("## Options") :], re.MULTILINE)
    found = {key: (values.replace("`", "").split(", "), default.strip("` ")) for key, values, default in rows}
    assert len(options) >= 5 and found == options
