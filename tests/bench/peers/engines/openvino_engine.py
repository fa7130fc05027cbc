"""OpenVINO GenAI's LLMPipeline, its own int4 model.

The pipeline has no single step: `decode` lets it generate on from all tokens so far. Its cache of prefixes makes that
cost one step and not the prompt again, and the time is that from the first new token to the last, by its own clock.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import openvino
import openvino_genai
import protocol


class OpenVino:
    """See `protocol.Engine`."""

    def __init__(self, args: argparse.Namespace) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = min(args.context, 4096)
        scheduler.cache_size = 0  # grows as needed
        self._pipeline = openvino_genai.LLMPipeline(
            args.model, "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=args.threads
        )
        self._ids: list[int] = []

    def prefill(self, ids: Sequence[int]) -> None:
        self._ids = list(ids)
        self._generate(1)

    def decode(self, tokens: int) -> float:
        times = self._generate(tokens + 1)
        return (times[-1] - times[0]) / 1000

    def _generate(self, tokens: int) -> Sequence[float]:
        config = openvino_genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        ids_1S = np.array([self._ids], np.int64)
        result = self._pipeline.generate(openvino.Tensor(ids_1S), config)
        self._ids += result.tokens[0]
        return result.perf_metrics.raw_metrics.m_new_token_times


if __name__ == "__main__":
    protocol.serve(OpenVino, f"openvino-genai {openvino_genai.__version__}", argparse.ArgumentParser())
