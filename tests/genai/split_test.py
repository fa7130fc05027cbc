"""A split model in genai's decoder-pipeline gives what the whole model gives, on our provider and without it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxruntime_ep_ryzen_npu_gemma.cli import main
from tests.genai import generating
from tests.genai.generating import make

IDS = np.random.default_rng(0).integers(6, 512, 60).astype(np.int32)  # several windows of 16


@pytest.fixture(scope="module")
def folders(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("split")
    for name, options in (("whole", []), ("split", ["--split"])):
        assert main(["convert", str(tiny_gguf), str(folder / name), "--kv", "f32", *options]) == 0
    return {name: folder / name for name in ("whole", "split")}


def logits(model: Any) -> np.ndarray:
    """After a prompt, after each of some single tokens, after a second prompt, and after one more token."""
    generator = make(model, max_length=100)
    rows = []
    for piece in (IDS[:30], *IDS[30:40].reshape(-1, 1), IDS[40:59], IDS[59:]):
        generator.append_tokens(piece)
        rows.append(np.array(generator.get_logits()[0, 0]))
    return np.array(rows)


@pytest.mark.parametrize("open_model", [generating.open_on_ep, generating.open_on_cpu])
def test_pipeline_equals_the_whole(folders: dict[str, Path], open_model: Callable[[Path], Any]) -> None:
    whole, split = open_model(folders["whole"]), open_model(folders["split"])
    assert (whole.type, split.type) == ("gemma3_text", "decoder-pipeline")
    expected = logits(whole)
    assert np.ptp(expected, axis=0).max() > 1  # the tokens matter
    np.testing.assert_allclose(logits(split), expected, rtol=0, atol=1e-3)


def test_a_pipeline_is_not_rewound(folders: dict[str, Path]) -> None:
    generator = make(generating.open_on_ep(folders["split"]), IDS[:10], max_length=100)
    with pytest.raises(RuntimeError, match="RewindTo is currently not supported"):
        generator.rewind_to(5)


_RESIDENT_BYTES = """
import resource, sys
from pathlib import Path
import numpy as np
from tests.genai import generating
model = generating.open_on_ep(Path(sys.argv[1]))
generator = generating.make(model, np.arange(1000, 1100, dtype=np.int32), max_length=200)
generating.greedy(generator, 8)
print(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
"""


@pytest.mark.slow
def test_both_stages_have_one_copy_of_the_weights(demo_gguf: Path, tmp_path: Path) -> None:
    """The real model's, in processes of their own, after a prompt and some single tokens."""
    sizes = []
    for name, options in (("whole", []), ("split", ["--split"])):
        assert main(["convert", str(demo_gguf), str(tmp_path / name), *options]) == 0
        command = [sys.executable, "-c", _RESIDENT_BYTES, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        sizes.append(int(done.stdout))
    whole, split = sizes
    weights = (tmp_path / "split" / "model.onnx.data").stat().st_size
    print("resident bytes", whole, split, "weights", weights)
    assert split - whole < weights / 4
