"""What onnxruntime-genai costs between a program and our provider, and what it gains over genai's own int4 on the CPU.

    python -m tests.bench.genai_seams [--model FOLDER] [--genai-int4 FOLDER] [--rounds 5] [--threads 2] [--json]

    ours          the model (the demo's) in our own decoder, as `bench` measures it
    genai on EP   the same folder in onnxruntime-genai; it also chooses each token, greedily
    genai on CPU  a folder by genai's own model builder, of the same weights (int4, block 32, accuracy level 4, the last
                  position alone), on onnxruntime's CPU provider

Each round prefills 512 tokens, then decodes 32 after a context of 64, engine after engine; the table gives medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import onnxruntime_genai as og

import onnxruntime_ep_ryzen_npu_gemma as ryzen
from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder
from onnxruntime_ep_ryzen_npu_gemma.session import open_session

_DEMO = Path(__file__).parents[2] / "build/demo/gemma3-270m"
_PREFILL, _CONTEXT, _DECODE, _ROWS = 512, 64, 32, 1024

_Measure = Callable[[np.ndarray], tuple[float, float]]


def _ours(model: Path, threads: int, accuracy: str) -> _Measure:
    folder = open_model_folder(model)
    session, _ = open_session(folder.model_path, device="host", threads=threads, accuracy=accuracy)
    decoder = Decoder(session, _ROWS, folder.windows)

    def measure(ids: np.ndarray) -> tuple[float, float]:
        decoder.reset()
        start = time.perf_counter()
        decoder.prefill(ids[:_PREFILL].tolist())
        prefill = time.perf_counter() - start
        decoder.reset()
        decoder.prefill(ids[:_CONTEXT].tolist())
        start = time.perf_counter()
        for token in ids[_CONTEXT : _CONTEXT + _DECODE].tolist():
            decoder.step(token)
        return prefill, time.perf_counter() - start

    return measure


def _genai(folder: Path, threads: int, provider: dict[str, dict[str, str]] | None) -> _Measure:
    config = og.Config(str(folder))
    options: dict[str, Any] = {"intra_op_num_threads": threads}
    if provider:
        options["provider_options"] = [provider]
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = og.Model(config)

    def generator(ids: np.ndarray) -> Any:
        params = og.GeneratorParams(model)
        params.set_search_options(do_sample=False, max_length=_ROWS, min_length=_ROWS)
        made = og.Generator(model, params)
        made.append_tokens(ids)
        return made

    def measure(ids: np.ndarray) -> tuple[float, float]:
        params = og.GeneratorParams(model)
        params.set_search_options(do_sample=False, max_length=_ROWS)
        whole = og.Generator(model, params)
        start = time.perf_counter()
        whole.append_tokens(ids[:_PREFILL])
        prefill = time.perf_counter() - start
        part = generator(ids[:_CONTEXT])
        part.generate_next_token()  # chooses by the prompt's logits; each further one runs the model once
        start = time.perf_counter()
        for _ in range(_DECODE):
            part.generate_next_token()
        return prefill, time.perf_counter() - start

    return measure


def main() -> int:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=_DEMO, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--genai-int4", type=Path, metavar="FOLDER")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ryzen.register_genai()
    engines: dict[str, _Measure] = {}
    for accuracy in ("exact", "fast"):
        provider = {ryzen.get_ep_name(): {"device": "host", "accuracy": accuracy}}
        engines[f"ours, {accuracy}"] = _ours(args.model, args.threads, accuracy)
        engines[f"genai on EP, {accuracy}"] = _genai(args.model, args.threads, provider)
    if args.genai_int4:
        engines["genai on CPU, int4"] = _genai(args.genai_int4, args.threads, None)
    ids = np.random.default_rng(0).integers(1000, 200_000, _PREFILL).astype(np.int32)
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    for i in range(args.rounds + 1):
        for name, measure in engines.items():
            print(f"\rround {i}/{args.rounds} {name:20}", end="", file=sys.stderr)
            seconds = measure(ids)
            if i:  # the first round warms up
                runs[name].append(seconds)
    print("\r\033[K", end="", file=sys.stderr)
    result = {
        name: {
            "prefill 512": _PREFILL / statistics.median(prefill for prefill, _ in run),
            "decode @64": _DECODE / statistics.median(decode for _, decode in run),
        }
        for name, run in runs.items()
    }
    if args.json:
        versions = {"onnxruntime": ort.__version__, "onnxruntime-genai": og.__version__}
        print(json.dumps({"threads": args.threads, **versions, "tokens per second": result}))
        return 0
    print(f"tokens/s, median of {args.rounds} rounds, {args.threads} threads")
    print(f"{'':20}{'prefill 512':>14}{'decode @64':>14}")
    for name, row in result.items():
        print(f"{name:20}{row['prefill 512']:14.1f}{row['decode @64']:14.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
