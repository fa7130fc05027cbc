"""`convert`: a model becomes a folder that onnxruntime and onnxruntime-genai run, or one of FastFlowLM's kind."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxruntime_ep_ryzen_npu_gemma.all_logits import ALL_LOGITS_FILE
from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

if TYPE_CHECKING:
    import onnx_ir as ir
    from tokenizers import Tokenizer

    from onnxruntime_ep_ryzen_npu_gemma.calibration import CalibratedMatrix
    from onnxruntime_ep_ryzen_npu_gemma.exported_model import ExportedModel
    from onnxruntime_ep_ryzen_npu_gemma.graph_passes import Report
    from onnxruntime_ep_ryzen_npu_gemma.models.gemma3_text import Logits
    from onnxruntime_ep_ryzen_npu_gemma.quantization import QuantizedTensor, Quantizer
    from onnxruntime_ep_ryzen_npu_gemma.sources import Source

    _Source = Source | ExportedModel

__all__ = ["add_parser", "main"]

_MODEL, _DATA, _GENAI = "model.onnx", "model.onnx.data", "genai_config.json"
_PREFILL, _DECODE = "prefill.onnx", "decode.onnx"
_HEAD_BITS = {"q4nx": 4, "q8": 8}
_DATA_ALIGNMENT = 4096  # a page: weights are mapped
_LEAST_CALIBRATION_TOKENS = 128
_CALIBRATION_WINDOW, _CALIBRATION_WINDOWS = 512, 32  # tokens; a matrix of 2048 columns wants several times as many


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command's arguments."""
    parser = subparsers.add_parser(
        "convert",
        help="convert a GGUF file, a Hugging Face folder or a model.q4nx folder",
        description="Converts a Gemma3 text model to a folder with a fused 4-bit ONNX model, its tokenizer and the "
        "configuration of onnxruntime-genai. Memory for one tensor at a time is needed, with --calibrate for one layer "
        "and the text's activations. Codes of a source in 4 bits (GGUF Q4_0, Q4_1, Q4_K; model.q4nx) are kept.",
    )
    parser.add_argument(
        "source", metavar="SRC", type=Path, help="a .gguf file, a Hugging Face model folder, or one with model.q4nx"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to make")
    parser.add_argument(
        "--from-onnx",
        action="store_true",
        help="SRC is an exported .onnx file, or its folder: onnxruntime-genai's builder, optimum, torch.onnx, mobius; "
        "with the tokenizer, and config.json or genai_config.json, beside it. Its int4 codes are kept",
    )
    parser.add_argument(
        "--split",
        action="store_true",
        help=f"also write {_PREFILL} and {_DECODE}, the latter for one token a call, over the same weights; genai runs "
        "these two",
    )
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
        "--quantizer",
        choices=("search", "rtn"),
        default="search",
        help="search: the grid of least error for each group; rtn: its range, which is quicker (default %(default)s)",
    )
    parser.add_argument(
        "--calibrate",
        metavar="TEXT",
        type=Path,
        help="quantise so that what the model computes on this text changes least; a UTF-8 file of some thousand words",
    )
    parser.add_argument(
        "--report", metavar="FILE", type=Path, help="write what each tensor lost, as tab-separated values"
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw it (.png, .svg; needs matplotlib)")
    parser.add_argument(
        "--format",
        choices=("onnx", "q4nx"),
        default="onnx",
        help="q4nx: a folder with model.q4nx, FastFlowLM's file of weights (default %(default)s)",
    )
    parser.add_argument(
        "--logits",
        choices=("last", "all"),
        default="last",
        help=f"all: also write {ALL_LOGITS_FILE}, which gives the logits of every position, over the same weights",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is a converted model")
    parser.add_argument("--json", action="store_true", help="print the result as one object")


def main(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        Problem: the source cannot be used, or OUT must not be written.
    """
    from onnxruntime_ep_ryzen_npu_gemma.exported_model import ExportedModel
    from onnxruntime_ep_ryzen_npu_gemma.output_folder import check_output, output_folder
    from onnxruntime_ep_ryzen_npu_gemma.quantization import Quantizer, requantised_tensor
    from onnxruntime_ep_ryzen_npu_gemma.quantization_report import by_type, check_drawing, draw, write_table
    from onnxruntime_ep_ryzen_npu_gemma.sources import open_source
    from onnxruntime_ep_ryzen_npu_gemma.sources.q4nx import Q4NX_FILE
    from onnxruntime_ep_ryzen_npu_gemma.tokenizer import write_tokenizer

    start = time.perf_counter()
    files = (_MODEL, _GENAI) if args.format == "onnx" else (Q4NX_FILE, "config.json")
    check_output(args.out, force=args.force, must_have=files, keep=args.source)
    _check_options(args)
    if args.plot is not None:
        check_drawing()
    source = ExportedModel(args.source) if args.from_onnx else open_source(args.source)
    with output_folder(args.out) as folder:
        tokenizer = write_tokenizer(source, folder)
        calibrated = {} if isinstance(source, ExportedModel) else _calibrated(source, tokenizer, args)
        quantizer = Quantizer(source, args.quantizer, calibrated)
        operators: dict[str, int] = {}
        requantised: list[QuantizedTensor] = []
        head = args.lm_head
        if args.format == "q4nx" and not isinstance(source, ExportedModel):
            _write_q4nx(source, quantizer, folder, args)
        else:
            report, head = _write_models(source, quantizer, folder, args)
            operators, requantised = report.counts, [requantised_tensor(weights) for weights in report.requantised]
            _write_genai_config(source, tokenizer, folder, args)
    tensors = [*quantizer.tensors.values(), *requantised]
    if args.report is not None:
        write_table(tensors, args.report)
    if args.plot is not None:
        draw(tensors, args.plot)
    result = {
        "out": str(args.out),
        "kv": args.kv,
        "lm_head": head,
        "layers": source.config.num_layers,
        "bytes": sum(file.stat().st_size for file in args.out.iterdir()),
        "seconds": round(time.perf_counter() - start, 1),
        "operators": operators,
        "quantized": by_type(tensors),
    }
    print(json.dumps(result) if args.json else _text(result))
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Refuses options that do not go together."""
    for option, wrong in (
        ("--calibrate", args.from_onnx and args.calibrate is not None),
        ("--format q4nx", args.from_onnx and args.format == "q4nx"),
    ):
        if wrong:
            do = "convert the original model, or leave the option out"
            raise Problem("an exported graph has no tensors by name", option, "--from-onnx", do)


def _calibrated(source: Source, tokenizer: Tokenizer, args: argparse.Namespace) -> dict[str, CalibratedMatrix]:
    """The matrices that `--calibrate` gives; none without it."""
    if args.calibrate is None:
        return {}
    from tqdm import tqdm

    from onnxruntime_ep_ryzen_npu_gemma.calibration import calibrate
    from onnxruntime_ep_ryzen_npu_gemma.prompt import encode_plain, read_text
    from onnxruntime_ep_ryzen_npu_gemma.scoring import windows

    ids = encode_plain(tokenizer, read_text(args.calibrate))
    if len(ids) < _LEAST_CALIBRATION_TOKENS:
        raise Problem("the text is too short to calibrate on", args.calibrate, f"{len(ids)} tokens",
                      f"give {_LEAST_CALIBRATION_TOKENS} or more, some ten thousand if you can")  # fmt: skip
    size = min(_CALIBRATION_WINDOW, source.config.max_positions)
    pieces = windows(ids, source.config.bos_token_id, size)
    pieces = pieces[:: -(-len(pieces) // _CALIBRATION_WINDOWS)]  # from all over the text
    runs = 1 if args.lm_head == "q8" else 2
    with tqdm(total=runs * source.config.num_layers, unit="layer", desc="calibrate", disable=None) as progress:
        return calibrate(source, pieces, _HEAD_BITS[args.lm_head], progress.update)


def _write_q4nx(source: Source, quantizer: Quantizer, folder: Path, args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from onnxruntime_ep_ryzen_npu_gemma.q4nx_folder import write_q4nx_folder

    with tqdm(total=len(source.names()) + 1, unit="tensor", desc="weights", disable=None) as progress:
        write_q4nx_folder(source, quantizer, _HEAD_BITS[args.lm_head], folder, progress.update)


def _write_genai_config(source: _Source, tokenizer: Tokenizer, folder: Path, args: argparse.Namespace) -> None:
    from onnxruntime_ep_ryzen_npu_gemma.genai_config import genai_config
    from onnxruntime_ep_ryzen_npu_gemma.model_card import model_card

    end_of_turn = tokenizer.token_to_id("<end_of_turn>")
    ends = {*source.config.eos_token_ids} | ({end_of_turn} if end_of_turn is not None else set())
    split = (_PREFILL, _DECODE) if args.split else None
    text = json.dumps(genai_config(source.config, sorted(ends), split), indent=2)
    (folder / _GENAI).write_text(text + "\n", encoding="utf-8")
    card = model_card(source.config.num_layers, source.config.hidden_size, source.config.max_positions)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _write_models(source: _Source, quantizer: Quantizer, folder: Path, args: argparse.Namespace) -> tuple[Report, str]:
    """Writes the graphs and, tensor by tensor, their weights; returns what the passes did, and the head's format."""
    import onnx_ir as ir
    from tqdm import tqdm

    from onnxruntime_ep_ryzen_npu_gemma.graph_passes.specialise_decode import SpecialiseDecode

    model, report = _fused(source, quantizer, "last", args)
    graphs = {_PREFILL: model, _DECODE: SpecialiseDecode()(model).model} if args.split else {}
    if args.logits == "all":
        graphs[ALL_LOGITS_FILE], _ = _fused(source, quantizer, "all", args)
    total = sum(value.const_value is not None for value in model.graph.initializers.values())
    with tqdm(total=total, unit="tensor", desc="weights", disable=None) as progress:
        ir.save(
            model,
            folder / _MODEL,
            external_data=_DATA,
            alignment=_DATA_ALIGNMENT,
            callback=lambda *_: progress.update(),
        )
    written = ir.load(folder / _MODEL)
    for name, graph in graphs.items():
        _point_to_data(graph, written)
        ir.save(graph, folder / name)
    embed = next(node for node in model.graph if node.op_type == "EmbedNBits")
    return report, next(name for name, bits in _HEAD_BITS.items() if bits == embed.attributes["bits"].value)


def _fused(source: _Source, quantizer: Quantizer, logits: Logits, args: argparse.Namespace) -> tuple[ir.Model, Report]:
    import onnx_ir as ir

    from onnxruntime_ep_ryzen_npu_gemma import graph_passes
    from onnxruntime_ep_ryzen_npu_gemma.exported_model import ExportedModel
    from onnxruntime_ep_ryzen_npu_gemma.models import gemma3_text

    model = source.graph() if isinstance(source, ExportedModel) else gemma3_text.export(source, logits)
    report = graph_passes.fuse(
        model,
        kv_dtype={"f16": ir.DataType.FLOAT16, "f32": ir.DataType.FLOAT}[args.kv],
        head_bits=_HEAD_BITS[args.lm_head],
        quantizer=quantizer,
        logits="last" if logits == "last" else None,
    )
    try:
        report.expect(source.config.num_layers)
    except graph_passes.FusionError as error:
        found = " ".join(str(error).split())
        raise Problem("the model does not fit the operators", source.path, found, "use an original Gemma3") from error
    if logits == "all" and next(value for value in model.graph.outputs if value.name == "logits").shape[1] == 1:  # type: ignore[index]
        do = "export it without a pruned head, or leave out --logits all"
        raise Problem("the exported graph has the last position's logits only", source.path, "logits [1, 1, V]", do)
    return model, report


def _point_to_data(model: ir.Model, written: ir.Model) -> None:
    """Makes the weights of one graph those that another one has already written, by name."""
    for name, value in model.graph.initializers.items():
        value.const_value = written.graph.initializers[name].const_value


def _text(result: dict[str, Any]) -> str:
    operators = ", ".join(f"{count} {name}" for name, count in sorted(result["operators"].items()))
    lines = [
        f"{result['out']}: {result['layers']} layers, head {result['lm_head']}, KV cache {result['kv']}, "
        f"{result['bytes'] / 1e6:.1f} MB, {result['seconds']:.1f} s",
        *([operators] if operators else []),
        *(
            f"{row['tensors']} {row['source_type']} -> {row['bits']} bits, {row['how']}: squared error "
            f"{row['nmse']:.2e} of the weights'"
            for row in result["quantized"]
        ),
    ]
    return "\n".join(lines)
