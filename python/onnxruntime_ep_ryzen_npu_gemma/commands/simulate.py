"""`simulate`: what the NPU designs would do on a Ryzen AI NPU, by the array simulator's time model, beside the paper.

Nothing is measured and no NPU is needed: the designs that are built for the NPU run on a model of the array
(kernels/sim), with one set of hardware figures. docs/npu.md says how far that model can be believed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnxruntime_ep_ryzen_npu_gemma.console import percent, table
from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

if TYPE_CHECKING:
    from onnxruntime_ep_ryzen_npu_gemma.kernels.gemma3_shapes import Gemma3Shape
    from onnxruntime_ep_ryzen_npu_gemma.kernels.predict.decode import DecodeStep
    from onnxruntime_ep_ryzen_npu_gemma.kernels.predict.prefill import Prefill

__all__ = ["add_parser", "main"]

_CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768)
_MOST = 131072  # positions; the time model is exact beyond, but nobody's cache is


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command's arguments."""
    parser = subparsers.add_parser(
        "simulate",
        help="predict the NPU's speed, without an NPU",
        description="Predicts time to first token and tokens a second on the NPU from its designs and a time model.",
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a folder that `convert` wrote")
    parser.add_argument("--model", dest="size", choices=("270m", "1b", "4b"), help="a published size instead")
    parser.add_argument(
        "--context", type=_contexts, default=_CONTEXTS, metavar="N,…", help="like 1k,8k (default 1k,2k,…,32k)"
    )
    parser.add_argument("--ddr", type=_rate, metavar="GB/s", help="rate of DDR reads (default: the published one)")
    parser.add_argument("--json", action="store_true", help="print one object with everything")


def main(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        Problem: no model or two, or a model whose sizes no design fits.
    """
    from onnxruntime_ep_ryzen_npu_gemma.kernels.gemma3_shapes import SHAPES
    from onnxruntime_ep_ryzen_npu_gemma.kernels.predict import paper
    from onnxruntime_ep_ryzen_npu_gemma.kernels.predict.decode import decode_step
    from onnxruntime_ep_ryzen_npu_gemma.kernels.predict.prefill import prefill
    from onnxruntime_ep_ryzen_npu_gemma.kernels.sim import hardware
    from onnxruntime_ep_ryzen_npu_gemma.kernels.sim.report import picture, tile_use

    if (args.model is None) == (args.size is None):
        found = "neither" if args.model is None else f"{args.model} and --model {args.size}"
        raise Problem("there is not one model to simulate", "simulate", found, "give a folder, or --model 1b")
    shape = SHAPES[args.size] if args.size else _shape_of(args.model)
    times = hardware.TIMES if args.ddr is None else replace(hardware.TIMES, ddr_read=args.ddr * 1e9 / hardware.CLOCK)
    implied = replace(times, ddr_read=paper.IMPLIED_DDR_READ / hardware.CLOCK)
    rows: list[dict[str, Any]] = []
    try:
        for context in args.context:
            print(f"simulating {shape.name} at {context}", file=sys.stderr)
            step = decode_step(shape, context, times)
            rows.append(
                {
                    "context": context,
                    "decode": _decode_row(shape, context, step, decode_step(shape, context, implied)),
                    "prefill": _prefill_row(shape, context, prefill(shape, context, times)),
                }
            )
    except ValueError as error:
        raise Problem("no design fits this model", shape.name, error, "use a published Gemma3 size") from error
    result = {
        "model": shape.name,
        "measured": False,
        "clock_hertz": hardware.CLOCK,
        "ddr_read_bytes_per_second": times.ddr_read * hardware.CLOCK,
        "rows": rows,
        "array": {f"{place.col},{place.row}": use for place, use in tile_use(step.layers).items()},
    }
    print(json.dumps(result) if args.json else _text(result, picture(step.layers)))
    return 0


def _decode_row(shape: Gemma3Shape, context: int, step: DecodeStep, implied: DecodeStep) -> dict[str, Any]:
    from onnxruntime_ep_ryzen_npu_gemma.kernels.predict import paper

    return {
        "seconds": step.seconds,
        "tokens_per_second": 1 / step.seconds,
        "roofline_tokens_per_second": 1 / step.roofline,
        "tokens_per_second_at_paper_ddr": 1 / implied.seconds,
        "paper_npu": paper.measured(paper.DECODE, shape.name, "npu", context),
        "paper_igpu": paper.measured(paper.DECODE, shape.name, "igpu", context),
        "paper_cpu": paper.measured(paper.DECODE, shape.name, "cpu", context),
        "seconds_of": {
            "ddr": step.ddr_seconds,
            "exposed": step.seconds - step.host - step.ddr_seconds,
            "dispatch": step.host,
        },
    }


def _prefill_row(shape: Gemma3Shape, context: int, prompt: Prefill) -> dict[str, Any]:
    from onnxruntime_ep_ryzen_npu_gemma.kernels.predict import paper

    return {
        "seconds": prompt.seconds,
        "tokens_per_second": context / prompt.seconds,
        "roofline_seconds": prompt.roofline,
        "paper_npu": paper.measured(paper.TTFT, shape.name, "npu", context),
        "paper_igpu": paper.measured(paper.TTFT, shape.name, "igpu", context),
        "paper_cpu": paper.measured(paper.TTFT, shape.name, "cpu", context),
        "seconds_of": prompt.parts,
        "ddr_seconds": prompt.ddr,
        "cores_seconds": prompt.cores,
    }


def _text(result: dict[str, Any], array: str) -> str:
    def ratio(ours: float, theirs: float | None) -> str:
        return "-" if theirs is None else f"{ours / theirs:.2f} x"

    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.4g}"

    decode, prompts, spent = [], [], []
    for row in result["rows"]:
        d, p = row["decode"], row["prefill"]
        decode.append(
            [
                str(row["context"]),
                figure(d["tokens_per_second"]),
                percent(d["tokens_per_second"] / d["roofline_tokens_per_second"]),
                figure(d["tokens_per_second_at_paper_ddr"]),
                figure(d["paper_npu"]),
                ratio(d["tokens_per_second"], d["paper_npu"]),
            ]
        )
        prompts.append(
            [
                str(row["context"]),
                figure(p["seconds"]),
                figure(p["tokens_per_second"]),
                figure(p["ddr_seconds"]),
                figure(p["cores_seconds"]),
                figure(p["roofline_seconds"]),
                figure(p["paper_npu"]),
                "-" if p["paper_npu"] is None else ratio(p["paper_npu"], p["seconds"]),
            ]
        )
        parts = {f"decode {k}": v for k, v in d["seconds_of"].items()} | p["seconds_of"]
        spent.append([str(row["context"]), *(f"{1e3 * seconds:.4g}" for seconds in parts.values())])
        names = list(parts)
    everything = frozenset(["context", *names])
    rate = result["ddr_read_bytes_per_second"] / 1e9
    header = ["context", "tokens/s", "of roofline", "at 47 GB/s", "paper", "ratio"]
    prompt_header = ["context", "seconds", "tokens/s", "DDR", "cores", "roofline", "paper", "ratio"]
    return "\n".join(
        [
            f"Gemma3 {result['model']} on XDNA2: {result['clock_hertz'] / 1e9:g} GHz, DDR reads {rate:.4g} GB/s.",
            "Predicted by a time model; nothing here was measured.",
            "",
            "Decode",
            table(header, decode, frozenset(header)),
            "",
            "Prefill, seconds to the first token; DDR alone, the cores alone, all tiles multiplying (roofline)",
            table(prompt_header, prompts, frozenset(prompt_header)),
            "",
            "Where the time goes, milliseconds",
            table(["context", *names], spent, everything),
            "",
            "Use of each tile while decoding at the longest context",
            array,
        ]
    )  # fmt: skip


def _shape_of(path: str) -> Gemma3Shape:
    """The published size that a converted model has."""
    from onnxruntime_ep_ryzen_npu_gemma.kernels.gemma3_shapes import SHAPES
    from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder
    from onnxruntime_ep_ryzen_npu_gemma.sources import strict_json

    folder = open_model_folder(path)
    decoder = strict_json.load(folder.path / "genai_config.json")["model"].get("decoder", {})
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_size")
    sizes = tuple(decoder.get(name) for name in names) if isinstance(decoder, dict) else ()
    for shape in SHAPES.values():
        if sizes == (shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_dim):
            return shape
    raise Problem("no NPU design is made for this model's sizes", folder.path, dict(zip(names, sizes, strict=False)),
                  "the designs are for Gemma3 270M, 1B and 4B")  # fmt: skip


def _contexts(text: str) -> tuple[int, ...]:
    values = []
    for part in text.split(","):
        digits, unit = (part[:-1], 1024) if part.endswith("k") else (part, 1)
        if not (digits.isascii() and digits.isdecimal() and 0 < int(digits) * unit <= _MOST):
            raise argparse.ArgumentTypeError(f"{part!r} is not a context between 1 and {_MOST // 1024}k")
        values.append(int(digits) * unit)
    return tuple(values)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate between 1 and 1000 GB/s")
    return value
