"""llama.cpp's own quantiser: IN.gguf OUT.gguf TYPE [--pure]. Runs in the environment of llama_cpp."""

from __future__ import annotations

import argparse

import llama_cpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("type", choices=("Q4_0", "Q4_1", "Q4_K_M"))
    parser.add_argument("--pure", action="store_true", help="the embedding, which is the head too, in the same type")
    args = parser.parse_args()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{args.type}")
    parameters.pure = args.pure
    failed = llama_cpp.llama_model_quantize(args.source.encode(), args.output.encode(), parameters)
    if failed:
        raise SystemExit(f"llama.cpp could not quantise {args.source} to {args.type}: {failed}")


if __name__ == "__main__":
    main()
