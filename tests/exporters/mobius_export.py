"""mobius build: HF_FOLDER OUTPUT [its own options, such as --ep cpu]."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hf_folder", type=Path)
    parser.add_argument("output", type=Path)
    arguments, options = parser.parse_known_args()
    if arguments.output.name != "model.onnx":
        parser.error(f"mobius names its output model.onnx, not {arguments.output.name}")
    command = [sys.executable, "-m", "mobius", "build", "--config", arguments.hf_folder, *options]
    subprocess.run([*command, arguments.output.parent], check=True)


if __name__ == "__main__":
    main()
