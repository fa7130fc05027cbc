"""A split model in onnxruntime-genai's decoder-pipeline gives what the whole model gives.  Slow: `make test-slow`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from onnxruntime_ep_ryzen_npu_gemma.cli import main
from tests.exporters.environments import environment

pytestmark = pytest.mark.slow

# Runs in the environment of genai's builder, on stock onnxruntime's CPU EP: a prompt, single tokens, a second prompt.
SCRIPT = """
import json, sys
import numpy as np
import onnxruntime_genai as og

config = og.Config(sys.argv[1])
config.clear_providers()
model = og.Model(config)
params = og.GeneratorParams(model)
params.set_search_options(max_length=100, do_sample=False)
generator = og.Generator(model, params)
ids = np.random.default_rng(0).integers(6, 512, 40).astype(np.int32)
best = []
for piece in (ids[:20], *ids[20:30].reshape(-1, 1), ids[30:]):
    generator.append_tokens(piece)
    best.append(float(generator.get_logits().max()))
print(json.dumps([model.type, best]))
"""


def test_pipeline_equals_the_whole(tiny_gguf: Path, tmp_path: Path) -> None:
    python = environment("genai_builder")
    found = []
    for name, options in (("whole", []), ("split", ["--split"])):
        assert main(["convert", str(tiny_gguf), str(tmp_path / name), "--kv", "f32", *options]) == 0
        run = subprocess.run([python, "-c", SCRIPT, tmp_path / name], check=True, capture_output=True, text=True)
        found.append(json.loads(run.stdout.splitlines()[-1]))
    (whole_type, whole), (split_type, split) = found
    assert (whole_type, split_type) == ("gemma3_text", "decoder-pipeline")
    assert len(set(whole)) > 10
    assert split == pytest.approx(whole, abs=1e-3)
