"""onnxruntime-genai on onnxruntime's CPU provider, its own int4 model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import onnxruntime
import onnxruntime_genai
import protocol


class Genai:
    """See `protocol.Engine`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._model = onnxruntime_genai.Model(_with_threads(args.model, args.threads))
        self._context = args.context
        self._generator: onnxruntime_genai.Generator | None = None

    def prefill(self, ids: Sequence[int]) -> None:
        self._generator = None  # its cache is freed before the next is made
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        # min_length: no end of the text may stop a measurement
        parameters.set_search_options(do_sample=False, max_length=self._context, min_length=self._context)
        self._generator = onnxruntime_genai.Generator(self._model, parameters)
        self._generator.append_tokens(list(ids))
        self._generator.generate_next_token()

    def decode(self, tokens: int) -> None:
        assert self._generator is not None
        for _ in range(tokens):
            self._generator.generate_next_token()


def _with_threads(model: str, threads: int) -> onnxruntime_genai.Config:
    """The thread count is not an argument: it has to stand in the model's configuration."""
    config = onnxruntime_genai.Config(model)
    options = {"intra_op_num_threads": threads}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return config


if __name__ == "__main__":
    version = f"onnxruntime-genai {onnxruntime_genai.__version__}, onnxruntime {onnxruntime.__version__}"
    protocol.serve(Genai, version, argparse.ArgumentParser())
