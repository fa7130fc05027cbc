"""The peers' virtual environments, one each under build/peers/, made when first asked for.

`PACKAGES` is the only place that says which version of which peer is measured.
`python -m tests.bench.peers.environments [NAME ...]` makes them without measuring.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.exporters.environments import VERSIONS

__all__ = ["PACKAGES", "environment"]


@dataclasses.dataclass(frozen=True)
class Packages:
    """What pip installs.

    Attributes:
        requirements: exact versions.
        options: for pip.
        variables: of the environment, for builds from source.
    """

    requirements: tuple[str, ...]
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


PACKAGES = {
    # Compiled here, for this machine's instruction sets: a wheel would be for any machine's.
    "llama_cpp": Packages(
        ("llama-cpp-python==0.3.36",),
        ("--no-binary", "llama-cpp-python", "--no-cache-dir"),
        (("CMAKE_ARGS", "-DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DGGML_CCACHE=OFF"),),
    ),
    # Its model builder comes in the same package and wants torch, which is not imported when a model runs.
    "genai": Packages(VERSIONS["genai_builder"]),
    # optimum-intel 2.2.0 exports gemma3_text with transformers up to 5.0.
    "openvino": Packages(
        (
            "openvino==2026.4.1",
            "openvino-genai==2026.4.1.0",
            "openvino-tokenizers==2026.4.1.0",
            "optimum-intel==2.2.0",
            "nncf==3.4.0",
            "torch==2.14.1",
            "torchvision==0.29.1",  # of the same build as torch, or nothing imports
            "transformers==4.57.6",
        )
    ),
}

_ROOT = Path(__file__).parents[3] / "build" / "peers"


def environment(peer: str) -> Path:
    """The Python of a peer's environment, which is made, or made anew when its packages changed.

    Raises:
        subprocess.CalledProcessError: pip failed; its output went to stderr.
    """
    packages = PACKAGES[peer]
    folder = _ROOT / peer
    stamp, wanted = folder / "packages.txt", "\n".join(packages.requirements)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"making {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-qq"]
        variables = {**os.environ, **dict(packages.variables)}
        subprocess.run([*pip, *packages.options, *packages.requirements], check=True, env=variables, stdout=sys.stderr)
        stamp.write_text(wanted, encoding="utf-8")
    return folder / "bin" / "python"


if __name__ == "__main__":
    for name in sys.argv[1:] or PACKAGES:
        print(environment(name))
