"""What the paper measured (arXiv 2602.06063 v2, result tables): Gemma3 on a Ryzen AI 7 350 (Krackan Point, XDNA2).

Prompt lengths are nominal: TTFT x the published prefill speed gives 93 to 95 % of them. No power figures here: our
model does not predict power.
"""

from __future__ import annotations

from collections.abc import Mapping

Table = Mapping[str, Mapping[str, tuple[float, ...]]]  # model, unit: a figure for each context

CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768)

# Seconds to the first token, by context.
TTFT: Table = {
    "1b": {
        "npu": (0.95, 1.47, 2.46, 4.42, 8.45, 17.19),
        "igpu": (0.51, 1.14, 2.61, 6.64, 21.3, 95.1),
        "cpu": (4.06, 8.06, 17.2, 36.2, 75.5, 165.0),
    },
    "4b": {
        "npu": (1.81, 2.81, 4.79, 8.37, 16.17, 33.5),
        "igpu": (2.05, 4.26, 9.54, 23.8, 71.5, 265.0),
        "cpu": (20.3, 42.4, 85.4, 176.0, 766.0, 832.0),
    },
}

# Tokens a second while decoding, by context.
DECODE: Table = {
    "1b": {
        "npu": (41.1, 40.5, 39.5, 37.3, 33.6, 27.9),
        "igpu": (38.0, 53.9, 42.3, 33.5, 25.0, 13.6),
        "cpu": (41.9, 40.8, 41.7, 40.2, 38.1, 33.8),
    },
    "4b": {
        "npu": (18.2, 18.0, 17.8, 17.3, 16.3, 14.8),
        "igpu": (18.6, 17.4, 15.3, 12.6, 9.2, 5.9),
        "cpu": (14.6, 13.5, 13.9, 13.0, 11.4, 10.8),
    },
}

# Bytes a second that the paper's 4B decode speeds imply over 1k to 32k (its weights are padded, section 1.4 there).
IMPLIED_DDR_READ = 47e9


def measured(table: Table, model: str, unit: str, context: int) -> float | None:
    """The paper's figure, or None where it has none."""
    row = table.get(model, {}).get(unit)
    return row[CONTEXTS.index(context)] if row is not None and context in CONTEXTS else None
