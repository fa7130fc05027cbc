"""RyzenNPUGemmaEP on stock onnxruntime, driven as `ryzen-npu-gemma generate` drives it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import onnxruntime
import protocol

from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder
from onnxruntime_ep_ryzen_npu_gemma.session import open_session


class Ours:
    """See `protocol.Engine`."""

    def __init__(self, args: argparse.Namespace) -> None:
        folder = open_model_folder(args.model)
        session, _ = open_session(
            folder.model_path, device="host", strict=True, accuracy=args.accuracy, threads=args.threads
        )
        self._decoder = Decoder(session, args.context, folder.windows)
        self._next = 0

    def prefill(self, ids: Sequence[int]) -> None:
        self._decoder.reset()
        self._next = int(np.argmax(self._decoder.prefill(ids)))

    def decode(self, tokens: int) -> None:
        for _ in range(tokens):
            self._next = int(np.argmax(self._decoder.step(self._next)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accuracy", choices=("exact", "fast"), required=True)
    protocol.serve(Ours, f"onnxruntime {onnxruntime.__version__}", parser)
