"""The exporters' virtual environments, one each under build/exporters/, made when first asked for.

`VERSIONS` is the only place that says which version of which exporter the fixtures come from.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["VERSIONS", "environment", "run_exporter"]

_TORCH = "torch==2.13.0"
_TRANSFORMERS = "transformers==5.23.0"
_ONNX = ("onnx==1.23.2", "onnx-ir==1.1.0", "onnxruntime==1.32.0", "numpy==2.4.6")

VERSIONS: dict[str, tuple[str, ...]] = {
    "genai_builder": ("onnxruntime-genai==0.18.0", _TORCH, _TRANSFORMERS, *_ONNX),
    "mobius_export": ("mobius-onnx==0.1.0", _TORCH, _TRANSFORMERS, *_ONNX),
    "optimum_export": ("optimum==2.1.0", "optimum-onnx==0.1.0", _TORCH, "transformers==4.57.6", *_ONNX),
    "torch_dynamo": (_TORCH, _TRANSFORMERS, "onnxscript==0.7.2", *_ONNX),
    "own_export": (),  # this repository's own package: the interpreter that runs the tests
}

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1] / "build" / "exporters"


def environment(exporter: str) -> Path:
    """The Python of an exporter's environment, which is made, or made anew when its versions changed.

    Raises:
        subprocess.CalledProcessError: pip failed; its output went to stderr.
    """
    versions = VERSIONS[exporter]
    if not versions:
        return Path(sys.executable)
    folder = _ROOT / exporter
    stamp = folder / "versions.txt"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != "\n".join(versions):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-qq", *versions], check=True)
        stamp.write_text("\n".join(versions), encoding="utf-8")
    return folder / "bin" / "python"


def run_exporter(exporter: str, hf_folder: Path, output: Path, *options: str) -> None:
    """Runs `<exporter>.py HF_FOLDER OUTPUT OPTIONS...` in the exporter's environment; OUTPUT is the .onnx file.

    Raises:
        subprocess.CalledProcessError: the exporter failed; its output went to stderr.
    """
    script = _HERE / f"{exporter}.py"
    command: list[str | Path] = [environment(exporter), script, hf_folder, output, *options]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=output.parent)


if __name__ == "__main__":
    for name in sys.argv[1:] or VERSIONS:
        print(environment(name))
