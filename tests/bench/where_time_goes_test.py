"""The sums of the profile's table, on events as the provider writes them."""

from __future__ import annotations

from typing import Any

from tests.bench.where_time_goes import parts_of


def launch(name: str, part: str, microseconds: float, operations: int = 0) -> dict[str, Any]:
    return {"cat": part, "name": name, "dur": microseconds, "args": {"bytes": 8, "operations": operations}}


def run(microseconds: float, *launches: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"cat": "run", "name": "run", "dur": microseconds, "args": {}}, *launches]


def test_kinds_are_added_up_and_what_is_left_is_told() -> None:
    down = [launch(f"model.layers.{i}.mlp.down_proj", "product", 10 + i, 5) for i in range(2)]
    norm = launch("model.layers.0.input_layernorm", "norm", 1)
    parts = parts_of([*run(30, *down, norm), *run(34, *down, norm)])
    found = {part.name: (part.launches, round(part.seconds * 1e6, 6), part.bytes, part.operations) for part in parts}
    assert found == {
        "down": (2, 21, 16, 10),
        "norm": (1, 1, 8, 0),
        "between launches": (0, 10, 0, 0),  # of 8 and 12
    }
