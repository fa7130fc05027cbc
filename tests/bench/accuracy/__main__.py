"""What each way to quantise costs, on the real Gemma3-270M; prints the table of docs/accuracy.md.

    python -m tests.bench.accuracy [--windows 10] [--only NAME ...] [--minutes M] [--json]

Every model is made of the same float32 weights (the demo's GGUF file, dequantised) and compared with them, position by
position, on Jane Austen's Persuasion; ours are calibrated on The Devil's Dictionary. llama.cpp and onnxruntime-genai
quantise with their own tools and run as they run: activations in 8 bits where they do that. Ours run in float32.

What is done is kept in build/accuracy, window by window: with --minutes a long run goes in pieces.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onnxruntime_ep_ryzen_npu_gemma.console import table
from onnxruntime_ep_ryzen_npu_gemma.scoring import summary
from tests.bench import texts
from tests.bench.accuracy.measure import Workshop
from tests.bench.accuracy.models import GenaiModel, LlamaCppModel, Model, Q4nxModel, float32_weights
from tests.exporters.environments import VERSIONS

_ROOT = Path(__file__).parents[3]
_GGUF = _ROOT / "build/demo/gemma-3-270m-q4_k_m.gguf"
_FOLDER = _ROOT / "build/accuracy"
_PYTHON = _ROOT / "python/onnxruntime_ep_ryzen_npu_gemma"
_CONVERTER = (  # what our codes come from
    *sorted((_ROOT / "graph_passes/quantizers").glob("*.py")),
    _ROOT / "graph_passes/q4nx.py",
    *sorted((_PYTHON / "calibration").glob("*.py")),
    _PYTHON / "quantization.py",
)

MODELS: tuple[Model, ...] = (
    LlamaCppModel("llama.cpp Q4_0, pure", "Q4_0", pure=True),
    LlamaCppModel("llama.cpp Q4_0", "Q4_0"),
    LlamaCppModel("llama.cpp Q4_1, pure", "Q4_1", pure=True),
    LlamaCppModel("llama.cpp Q4_1", "Q4_1"),
    LlamaCppModel("llama.cpp Q4_K_M", "Q4_K_M"),
    GenaiModel("ORT-genai int4, RTN", ()),
    GenaiModel(
        "ORT-genai int4, k-quant",
        ("algo_config=k_quant", "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8"),
    ),
    Q4nxModel("Q4NX, RTN", ("--lm-head", "q4nx", "--quantizer", "rtn")),
    Q4nxModel("Q4NX, searched", ("--lm-head", "q4nx")),
    Q4nxModel("Q4NX, calibrated", ("--lm-head", "q4nx", "--calibrate", "TEXT")),
    Q4nxModel("Q4NX, RTN, head in 8 bits", ("--quantizer", "rtn")),
    Q4nxModel("Q4NX, searched, head in 8 bits", ()),
    Q4nxModel("Q4NX, calibrated, head in 8 bits", ("--calibrate", "TEXT")),
    Q4nxModel("Q4NX, calibrated, kept codes", ("--lm-head", "q4nx", "--calibrate", "TEXT"), kept_codes=True),
)


def main() -> int:
    """Makes what is missing, measures it, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10, help="windows of 2048 tokens (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=[model.name for model in MODELS], metavar="NAME")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing new after so long")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    _FOLDER.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(_FOLDER, float32_weights(_GGUF, _FOLDER / "float32.gguf"), texts.persuasion(), _made_of)
    models = [model for model in MODELS if not args.only or model.name in args.only]
    for model in models:
        if time.monotonic() < deadline:
            workshop.make(model)
    made = [model for model in models if workshop.made(model)]
    workshop.measure(made, args.windows, deadline)
    results = []
    for model in made:
        scores = workshop.scores(model, args.windows)
        if scores is None:
            continue
        path = workshop.path(model)
        size = sum(file.stat().st_size for file in model.weight_files(path))
        results.append({"name": model.name, "bits": model.bits(path), "bytes": size, **summary(scores)})
    if results:
        print(json.dumps(results) if args.json else _table(results))
    if len(results) < len(models):
        print(f"{len(models) - len(results)} models are not measured yet: run this again", file=sys.stderr)
    return 0 if len(results) == len(models) else 1


def _made_of(model: Model) -> str:
    tool = {
        LlamaCppModel: lambda: "",
        GenaiModel: lambda: " ".join(VERSIONS["genai_builder"]),
        Q4nxModel: lambda: hashlib.sha256(b"".join(file.read_bytes() for file in _CONVERTER)).hexdigest(),
    }[type(model)]
    return f"{model}\n{tool()}\nonnxruntime {version('onnxruntime')}\n"


def _table(results: list[dict[str, Any]]) -> str:
    header = ("model", "bits, body / head", "MB", "perplexity", "ln increase", "KL mean", "KL 99.9 %", "top 1", "top 5")
    rows = [
        (
            r["name"],
            r["bits"],
            f"{r['bytes'] / 1e6:.0f}",
            f"{r['perplexity']:.2f}",
            f"{r['ln_increase']:.4f} ± {r['ln_increase_se']:.4f}",
            f"{r['kl_mean']:.4f} ± {r['kl_mean_se']:.4f}",
            f"{r['kl_p999']:.2f}",
            f"{100 * r['top1']:.1f} ± {100 * r['top1_se']:.1f} %",
            f"{100 * r['top5']:.1f} %",
        )
        for r in results
    ]
    first = results[0]
    note = f"{first['tokens']} tokens; the original's perplexity is {first['reference_perplexity']:.3f}"
    return table(header, rows, right=frozenset(header[2:])) + "\n" + note


if __name__ == "__main__":
    sys.exit(main())
