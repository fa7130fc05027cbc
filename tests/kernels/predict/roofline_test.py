from __future__ import annotations

import pytest

from kernels.gemma3_shapes import GEMMA3_1B, GEMMA3_4B, SHAPES
from kernels.predict import paper, roofline


@pytest.mark.parametrize("name", SHAPES)
def test_visible_pairs_are_those_of_the_mask(name: str) -> None:
    shape = SHAPES[name]
    tokens = shape.window + 37
    for layer in (0, 5):
        window = tokens if shape.is_global(layer) else shape.window
        assert roofline.visible_pairs(shape, layer, tokens) == sum(min(t + 1, window) for t in range(tokens))


def test_a_prompt_shorter_than_the_window_is_all_causal() -> None:
    assert roofline.visible_pairs(GEMMA3_1B, 0, 100) == roofline.visible_pairs(GEMMA3_1B, 5, 100) == 5050


def test_4b_reads_what_the_paper_reads() -> None:
    """The fact sheet's section 1.12: 2.005 GB of layers, 0.420 GB of head; no column of 4B is padded."""
    reads = roofline.decode_bytes(GEMMA3_4B, 1024)
    assert reads.layers == pytest.approx(2.005e9, rel=1e-3)
    assert reads.head == pytest.approx(0.420e9, rel=2e-3)
    assert reads.kv == 4096 * (5 * 1024 + 29 * 1023)


def test_1b_does_not_read_padding() -> None:
    """The .q4nx file pads 1152 columns to 1280 and reads 0.678 GB."""
    reads = roofline.decode_bytes(GEMMA3_1B, 0)
    assert reads.kv == 0
    assert reads.total == pytest.approx(0.625e9, rel=2e-3)


def test_the_papers_decode_is_its_implied_bandwidth() -> None:
    for context in paper.CONTEXTS:
        speed = paper.measured(paper.DECODE, "4b", "npu", context)
        assert speed is not None
        implied = roofline.decode_bytes(GEMMA3_4B, context).total * speed
        assert implied == pytest.approx(paper.IMPLIED_DDR_READ, rel=0.03)


def test_an_unmeasured_context_is_none() -> None:
    assert paper.measured(paper.DECODE, "4b", "npu", 3000) is None
    assert paper.measured(paper.DECODE, "270m", "npu", 1024) is None
