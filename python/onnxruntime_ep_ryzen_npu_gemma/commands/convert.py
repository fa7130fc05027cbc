"""`convert`: a GGUF file or a Hugging Face folder becomes a folder that onnxruntime and onnxruntime-genai run."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxruntime_ep_ryzen_npu_gemma.sources import Source

__all__ = ["add_parser", "main"]

_MODEL, _ALL_LOGITS, _DATA, _GENAI = "model.onnx", "model_all_logits.onnx", "model.onnx.data", "genai_config.json"
_HEAD_BITS = {"q4nx": 4, "q8": 8}
_DATA_ALIGNMENT = 4096  # a page: weights are mapped


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command's arguments."""
    parser = subparsers.add_parser(
        "convert",
        help="convert a GGUF file or a Hugging Face folder",
        description="Converts a Gemma3 text model to a folder with a fused 4-bit ONNX model, its tokenizer and the "
        "configuration of onnxruntime-genai. Memory for one tensor at a time is needed.",
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="a .gguf file or a Hugging Face model folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to make")
    parser.add_argument(
        "--kv", choices=("f16", "f32"), default="f16", help="type of the KV cache (default %(default)s)"
    )
    parser.add_argument(
        "--lm-head",
        choices=tuple(_HEAD_BITS),
        default="q8",
        help="bits of the output head, which is also the embedding (default %(default)s)",
    )
    parser.add_argument(
        "--logits",
        choices=("last", "all"),
        default="last",
        help=f"all: also write {_ALL_LOGITS}, which gives the logits of every position, over the same weights",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is a converted model")
    parser.add_argument("--json", action="store_true", help="print the result as one object")


def main(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        Problem: the source cannot be used, or OUT must not be written.
    """
    from onnxruntime_ep_ryzen_npu_gemma.genai_config import genai_config
    from onnxruntime_ep_ryzen_npu_gemma.output_folder import check_output, output_folder
    from onnxruntime_ep_ryzen_npu_gemma.sources import open_source
    from onnxruntime_ep_ryzen_npu_gemma.tokenizer import write_tokenizer

    start = time.perf_counter()
    check_output(args.out, force=args.force, must_have=(_MODEL, _GENAI), keep=args.source)
    source = open_source(args.source)
    with output_folder(args.out) as folder:
        tokenizer = write_tokenizer(source, folder)
        fused = _write_models(source, folder, args)
        end_of_turn = tokenizer.token_to_id("<end_of_turn>")
        ends = {*source.config.eos_token_ids} | ({end_of_turn} if end_of_turn is not None else set())
        text = json.dumps(genai_config(source.config, sorted(ends)), indent=2)
        (folder / _GENAI).write_text(text + "\n", encoding="utf-8")
    result = {
        "out": str(args.out),
        "kv": args.kv,
        "lm_head": args.lm_head,
        "layers": source.config.num_layers,
        "bytes": sum(file.stat().st_size for file in args.out.iterdir()),
        "seconds": round(time.perf_counter() - start, 1),
        "operators": fused,
    }
    print(json.dumps(result) if args.json else _text(result))
    return 0


def _write_models(source: Source, folder: Path, args: argparse.Namespace) -> dict[str, int]:
    """Writes the graph and its weights, tensor by tensor; returns how often each of our operators is in the graph."""
    import onnx_ir as ir
    from tqdm import tqdm

    model, counts = _fused(source, "last", args)
    total = sum(value.const_value is not None for value in model.graph.initializers.values())
    with tqdm(total=total, unit="tensor", desc="weights", disable=None) as progress:
        ir.save(
            model,
            folder / _MODEL,
            external_data=_DATA,
            alignment=_DATA_ALIGNMENT,
            callback=lambda *_: progress.update(),
        )
    if args.logits == "all":
        every_position, _ = _fused(source, "all", args)
        _point_to_data(every_position, ir.load(folder / _MODEL))
        ir.save(every_position, folder / _ALL_LOGITS)
    return counts


def _fused(source: Source, logits: Any, args: argparse.Namespace) -> tuple[ir.Model, dict[str, int]]:
    import onnx_ir as ir

    from onnxruntime_ep_ryzen_npu_gemma import graph_passes
    from onnxruntime_ep_ryzen_npu_gemma.models import gemma3_text

    model = gemma3_text.export(source, logits)
    kv_dtype = {"f16": ir.DataType.FLOAT16, "f32": ir.DataType.FLOAT}[args.kv]
    report = graph_passes.fuse(model, kv_dtype=kv_dtype, head_bits=_HEAD_BITS[args.lm_head])
    try:
        report.expect(source.config.num_layers)
    except graph_passes.FusionError as error:
        found = " ".join(str(error).split())
        raise Problem("the model does not fit the operators", source.path, found, "use an original Gemma3") from error
    return model, report.counts


def _point_to_data(model: ir.Model, written: ir.Model) -> None:
    """Makes the weights of one graph those that another one has already written, by name."""
    for name, value in model.graph.initializers.items():
        value.const_value = written.graph.initializers[name].const_value


def _text(result: dict[str, Any]) -> str:
    operators = ", ".join(f"{count} {name}" for name, count in sorted(result["operators"].items()))
    return (
        f"{result['out']}: {result['layers']} layers, head {result['lm_head']}, KV cache {result['kv']}, "
        f"{result['bytes'] / 1e6:.1f} MB, {result['seconds']:.1f} s\n{operators}"
    )
