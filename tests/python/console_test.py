"""Text for people."""

from __future__ import annotations

import pytest

from onnxruntime_ep_ryzen_npu_gemma.console import count, percent, printable, table


def test_table_aligns_columns_and_leaves_no_trailing_spaces():
    text = table(("op", "nodes", "why"), [("MatMul", "7", ""), ("Add", "128", "too big")], right=frozenset({"nodes"}))
    assert text.splitlines() == [
        "op      nodes  why",
        "MatMul      7",
        "Add       128  too big",
    ]


def test_control_characters_are_escaped():
    assert printable("a\x1b[31m\tb\n") == r"a\x1b[31m\tb\n"
    assert "\x1b" not in table(("name",), [("\x1b]0;title\x07",)])


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0.0 %"), (0.9949, "99.5 %"), (0.99999, "99.9 %"), (1, "100.0 %"), (0.0004, "0.0 %")]
)
def test_only_everything_is_a_hundred_percent(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (12_345, "12.3 k"), (268_435_456, "268 M"), (1_000_000_000, "1.0 G")]
)
def test_counts_keep_three_digits(number, text):
    assert count(number) == text
