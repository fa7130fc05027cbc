"""optimum-onnx's export with past key values: HF_FOLDER OUTPUT."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from optimum.exporters.onnx import main_export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hf_folder", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # As `optimum-cli export onnx` calls it; it compares its own graph with torch and fails when they differ.
        main_export(str(arguments.hf_folder), folder, task="text-generation-with-past")
        shutil.move(Path(folder) / "model.onnx", arguments.output)


if __name__ == "__main__":
    main()
