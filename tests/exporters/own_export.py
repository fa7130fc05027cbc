"""This repository's own export, before any pass: HF_FOLDER OUTPUT --logits last|all."""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx_ir as ir

from onnxruntime_ep_ryzen_npu_gemma.models.gemma3_text import export
from onnxruntime_ep_ryzen_npu_gemma.sources import open_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hf_folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--logits", choices=("last", "all"), default="last")
    arguments = parser.parse_args()
    model = export(open_source(arguments.hf_folder), arguments.logits)
    ir.save(model, arguments.output, external_data=f"{arguments.output.name}.data")


if __name__ == "__main__":
    main()
