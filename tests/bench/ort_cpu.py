"""Our host device against onnxruntime's own CPU provider, on the real Gemma3-270M, interleaved in one process.

    python -m tests.bench.ort_cpu [--rounds 5] [--threads 2] [--json]

Models of the same weights:
    ours        the demo model on RyzenNPUGemmaEP: 4-bit Q4NX, its head (which is the embedding too) in 8 bits
    ours q4     the same with the head in 4 bits
    …, fast     with accuracy=fast: activations in int8
    ort int4    our standard export, quantised by onnxruntime's own MatMulNBitsQuantizer (4 bits, block 32, asymmetric,
                accuracy_level 4, the head too), on the CPU provider
    ort fp32    our standard export as it is, on the CPU provider

Each round prefills 512 tokens, then decodes 32 after a context of 64, model after model; the table gives medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from onnxruntime_ep_ryzen_npu_gemma import cli
from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
from onnxruntime_ep_ryzen_npu_gemma.models.gemma3_text import export
from onnxruntime_ep_ryzen_npu_gemma.session import open_session
from onnxruntime_ep_ryzen_npu_gemma.sources import open_source

_ROOT = Path(__file__).parents[2]
_DEMO = _ROOT / "build/demo/gemma3-270m"
_GGUF = _ROOT / "build/demo/gemma-3-270m-q4_k_m.gguf"
_PREFILL, _CONTEXT, _DECODE = 512, 64, 32


def _standard_export(folder: Path) -> Path:
    path = folder / "fp32.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        ir.save(export(open_source(_GGUF)), path, external_data="fp32.onnx.data")
    return path


def _ort_int4(folder: Path) -> Path:
    """onnxruntime's own weight-only quantisation of the export, its tied head made a matrix of its own."""
    path = folder / "int4.onnx"
    if not path.is_file():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        model = onnx.load(_standard_export(folder))
        transposed = next(node for node in model.graph.node if node.op_type == "Transpose" and "embed" in node.input[0])
        embedding = next(i for i in model.graph.initializer if i.name == transposed.input[0])
        head = np.ascontiguousarray(onnx.numpy_helper.to_array(embedding).T)
        model.graph.node.remove(transposed)
        model.graph.initializer.append(onnx.numpy_helper.from_array(head, transposed.output[0]))
        quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=32, is_symmetric=False, accuracy_level=4)
        quantizer.process()
        quantizer.model.save_model_to_file(str(path), use_external_data_format=True)
    return path


def _q4_head(folder: Path) -> Path:
    """The demo model with a 4-bit head, converted by the command line."""
    out = folder / "q4-head"
    if not out.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        assert cli.main(["convert", str(_GGUF), str(out), "--lm-head", "q4nx"]) == 0
    return out / "model.onnx"


def _our_session(path: Path, threads: int, accuracy: str) -> ort.InferenceSession:
    return open_session(path, device="host", accuracy=accuracy, threads=threads)[0]


def _cpu_session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _measure(decoder: Decoder, ids: list[int]) -> tuple[float, float]:
    """Prefill and decode, tokens a second."""
    decoder.reset()
    start = time.perf_counter()
    decoder.prefill(ids[:_PREFILL])
    prefill = _PREFILL / (time.perf_counter() - start)
    decoder.reset()
    decoder.prefill(ids[:_CONTEXT])
    start = time.perf_counter()
    for token in ids[:_DECODE]:
        decoder.step(token)
    return prefill, _DECODE / (time.perf_counter() - start)


def main() -> int:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = _ROOT / "build/bench/270m"
    models: dict[str, Callable[[], ort.InferenceSession]] = {
        "ours": lambda: _our_session(_DEMO / "model.onnx", args.threads, "exact"),
        "ours, fast": lambda: _our_session(_DEMO / "model.onnx", args.threads, "fast"),
        "ours q4": lambda: _our_session(_q4_head(folder), args.threads, "exact"),
        "ours q4, fast": lambda: _our_session(_q4_head(folder), args.threads, "fast"),
        "ort int4": lambda: _cpu_session(_ort_int4(folder), args.threads),
        "ort fp32": lambda: _cpu_session(_standard_export(folder), args.threads),
    }
    decoders = {name: Decoder(make(), 1024, None) for name, make in models.items()}
    ids = np.random.default_rng(0).integers(1000, 200_000, 512).tolist()
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
    for i in range(args.rounds + 1):
        for name, decoder in decoders.items():
            print(f"\rround {i}/{args.rounds} {name:14}", end="", file=sys.stderr)
            measured = _measure(decoder, ids)
            if i:  # the first round warms up
                runs[name].append(measured)
    print(file=sys.stderr)
    result = {
        name: {"prefill 512": statistics.median(p for p, _ in run), "decode @64": statistics.median(d for _, d in run)}
        for name, run in runs.items()
    }
    if args.json:
        stamp = {"machine": platform.processor() or platform.machine(), "onnxruntime": ort.__version__}
        print(json.dumps({"threads": args.threads, **stamp, "tokens per second": result}))
    else:
        print(f"tokens/s, median of {args.rounds} rounds, {args.threads} threads")
        print(f"{'':14}{'prefill 512':>14}{'decode @64':>14}")
        for name, row in result.items():
            print(f"{name:14}{row['prefill 512']:14.1f}{row['decode @64']:14.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
