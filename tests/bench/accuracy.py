"""What each way to quantise costs, on the real Gemma3-270M; prints the table of docs/accuracy.md.

    python -m tests.bench.accuracy [--windows 10] [--only NAME ...] [--json]

The truth is the demo's GGUF file in float32. Every model is measured by `perplexity --reference` on Jane Austen's
Persuasion; ours are calibrated on The Devil's Dictionary. The GGUF types are the gguf package's own Q4_0 and Q4_1 of
all matrices (llama.cpp's --pure), run in float32: what their codes lose, without llama.cpp's 8-bit activations.
Everything is made under build/accuracy and kept there: a model is made once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf

from onnxruntime_ep_ryzen_npu_gemma import cli
from onnxruntime_ep_ryzen_npu_gemma.console import table
from tests.bench import texts

_ROOT = Path(__file__).parents[2]
_GGUF = _ROOT / "build/demo/gemma-3-270m-q4_k_m.gguf"
_FOLDER = _ROOT / "build/accuracy"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        name: what was done.
        bits: of the projections and of the head, a weight, scales included.
        make: makes the model at a path.
        suffix: of the path.
    """

    name: str
    bits: str
    make: Callable[[Path], None]
    suffix: str = ""

    @property
    def path(self) -> Path:
        """Where the model is."""
        return _FOLDER / (self.name.replace(" ", "-").replace(",", "") + self.suffix)


def _convert(*options: str) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        arguments = [str(texts.devil()) if option == "TEXT" else option for option in options]
        _run("convert", str(_GGUF), str(out), "--logits", "all", *arguments)

    return make


def _requantize(kind: gguf.GGMLQuantizationType) -> Callable[[Path], None]:
    """Writes the demo's GGUF with all matrices of one type."""

    def make(out: Path) -> None:
        reader = gguf.GGUFReader(_GGUF)
        writer = gguf.GGUFWriter(out, "gemma3")
        for name, field in reader.fields.items():
            if not name.startswith("GGUF.") and name != "general.architecture":
                writer.add_key_value(name, field.contents(), field.types[0], field.types[-1])
        for tensor in reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            type_ = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, type_), raw_dtype=type_)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return make


VARIANTS = (
    Variant("GGUF Q4_0, pure", "4.5 / 4.5", _requantize(gguf.GGMLQuantizationType.Q4_0), ".gguf"),
    Variant("GGUF Q4_1, pure", "5.0 / 5.0", _requantize(gguf.GGMLQuantizationType.Q4_1), ".gguf"),
    Variant("Q4NX, rtn", "5.0 / 5.0", _convert("--lm-head", "q4nx", "--quantizer", "rtn")),
    Variant("Q4NX, searched", "5.0 / 5.0", _convert("--lm-head", "q4nx")),
    Variant("Q4NX, calibrated", "5.0 / 5.0", _convert("--lm-head", "q4nx", "--calibrate", "TEXT")),
    Variant("Q4NX, rtn, q8 head", "5.0 / 8.5", _convert("--quantizer", "rtn")),
    Variant("Q4NX, searched, q8 head", "5.0 / 8.5", _convert()),
    Variant("Q4NX, calibrated, q8 head", "5.0 / 8.5", _convert("--calibrate", "TEXT")),
)


def main() -> int:
    """Makes the models that are missing, measures all, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10, help="windows of 2048 tokens (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=[variant.name for variant in VARIANTS], metavar="NAME")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    results = []
    for variant in VARIANTS:
        if args.only and variant.name not in args.only:
            continue
        if not variant.path.exists():
            variant.make(variant.path)
        text, windows = str(texts.persuasion()), str(args.windows)
        figures = _run("perplexity", str(variant.path), text, "--reference", str(_GGUF), "--windows", windows)
        results.append({"name": variant.name, "bits": variant.bits, "bytes": _size(variant.path), **figures})
        print(json.dumps(results[-1]) if args.json else _table(results[-1:]), file=sys.stderr, flush=True)
    print(json.dumps(results) if args.json else _table(results))
    return 0


def _run(*arguments: str) -> dict[str, Any]:
    """Runs a command of the CLI; its result."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.main([*arguments, "--json"])
    result: dict[str, Any] = json.loads(out.getvalue())
    if code:
        raise SystemExit(f"{' '.join(arguments)}: {result}")
    return result


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [path / "model.onnx.data"]
    return sum(file.stat().st_size for file in files)


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
            f"{100 * r['top1']:.1f} %",
            f"{100 * r['top5']:.1f} %",
        )
        for r in results
    ]
    first = results[0]
    note = f"{first['tokens']} tokens; the original's perplexity is {first['reference_perplexity']:.3f}"
    return table(header, rows, right=frozenset(header[2:])) + "\n" + note


if __name__ == "__main__":
    sys.exit(main())
