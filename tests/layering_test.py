"""Who may import whom (docs/architecture.md), read from the #include lines and the import statements of the tree.

python/ imports graph_passes/, which imports onnx_ir, onnxscript and numpy, and kernels/; ep/ includes kernels/.
kernels/ is alone: its Python is the NPU's designs and their simulator, on numpy and `aie`.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "onnxruntime_ep_ryzen_npu_gemma"
ORT_HEADERS = Path("ep/src/ort.h")
XRT_HEADERS = Path("ep/src/device/xrt.cc")
OPTIONAL = {"matplotlib", "onnxruntime", "onnxruntime_genai"}  # it only draws; users choose their runtime
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def cpp_violations(root: Path) -> Iterator[str]:
    may_include = {"kernels": ("kernels/",), "ep": ("ep/", "kernels/")}
    for layer, allowed in may_include.items():
        for path in sorted(root.joinpath(layer).rglob("*")):
            if path.suffix not in {".h", ".cc", ".inc"}:
                continue
            file = path.relative_to(root)
            for quote, target in INCLUDE.findall(path.read_text(encoding="utf-8")):
                if Path(target).name.startswith("onnxruntime"):
                    legal = file == ORT_HEADERS
                elif re.match(r"(experimental/)?xrt\b", target):
                    legal = file == XRT_HEADERS
                else:
                    legal = target.startswith(allowed) if quote == '"' else not target.startswith(("ep/", "kernels/"))
                if not legal:
                    yield f"{file} includes {target}"


def imports(tree: ast.Module, module_package: list[str]) -> Iterator[tuple[str, bool]]:
    """Yields (absolute dotted name, whether it is imported as soon as the module is)."""

    def visit(node: ast.AST, at_import: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module_package[: len(module_package) - node.level + 1] if node.level else []
            prefix = base + (node.module.split(".") if node.module else [])
            yield from ((".".join([*prefix, alias.name]), at_import) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, at_import)
        else:
            deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_import and not deferred)

    return visit(tree, True)


def python_violations(root: Path) -> Iterator[str]:
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    dependencies = {re.split(r"[^\w.-]", requirement)[0].replace("-", "_") for requirement in declared}
    layers = [  # folder, its dotted name (of our modules it may import only those below), other people's modules
        (f"python/{PACKAGE}", PACKAGE, dependencies | OPTIONAL),
        ("graph_passes", f"{PACKAGE}.graph_passes", {"numpy", "onnx_ir", "onnxscript"}),
        ("kernels", "kernels", {"aie", "matplotlib", "ml_dtypes", "numpy"}),
    ]
    for folder, ours, others in layers:
        for path in sorted((root / folder).rglob("*.py")):
            file = path.relative_to(root)
            package = [*ours.split("."), *file.relative_to(folder).parent.parts]
            for name, at_import in imports(ast.parse(path.read_text(encoding="utf-8"), str(file)), package):
                top = name.split(".")[0]
                if top in OPTIONAL and at_import:
                    yield f"{file} imports {name} outside a function"
                elif f"{name}.".startswith(f"{ours}.") or top in sys.stdlib_module_names or top in others:
                    continue
                else:
                    yield f"{file} imports {name}"


def violations(root: Path) -> list[str]:
    return [*cpp_violations(root), *python_violations(root)]


def test_the_tree_keeps_the_rules() -> None:
    assert violations(ROOT) == []


def test_every_layer_is_read() -> None:
    """A moved folder must not make the test above pass by finding nothing."""
    for pattern in ("kernels/*/*.h", "ep/src/*.cc", f"python/{PACKAGE}/*.py", "graph_passes/*.py"):
        assert list(ROOT.glob(pattern)), pattern
    assert (ROOT / ORT_HEADERS).is_file()


LEGAL = {
    "pyproject.toml": '[project]\ndependencies = ["numpy>=1", "onnx_ir>=1", "jinja2"]\n',
    "kernels/op/op.cc": '#include "kernels/op/op.h"\n#include <vector>\n',
    "ep/src/ort.h": "#include <onnxruntime_c_api.h>\n",
    "ep/src/device/xrt.cc": '#include "ep/src/device/device.h"\n#include "xrt/xrt_device.h"\n',
    "ep/src/device/host.cc": '#include "kernels/op/op.h"\n#include "ep/src/ort.h"\n',
    "graph_passes/fuse.py": "import numpy as np\nimport onnx_ir as ir\nfrom . import opset\nfrom .opset import NAME\n",
    f"python/{PACKAGE}/commands/run.py": (
        "from typing import TYPE_CHECKING\nimport jinja2\nfrom ..graph_passes import pipeline\nfrom .. import errors\n"
        "if TYPE_CHECKING:\n    import onnxruntime\n"
        "def main():\n    import onnxruntime as ort\n"
    ),
}

PLANTED = [
    ("kernels/op/op.cc", '#include "ep/src/error.h"\n', "kernels/op/op.cc includes ep/src/error.h"),
    ("kernels/op/op.h", "#include <ep/src/error.h>\n", "kernels/op/op.h includes ep/src/error.h"),
    ("kernels/op/op.h", "#include <onnxruntime_c_api.h>\n", "kernels/op/op.h includes onnxruntime_c_api.h"),
    ("kernels/op/kernels.inc", '  #  include "tests/tiny.h"\n', "kernels/op/kernels.inc includes tests/tiny.h"),
    ("ep/src/plan.h", '#include "onnxruntime/onnxruntime_ep_c_api.h"\n', "includes onnxruntime/onnxruntime_ep_c_api.h"),
    ("ep/src/factory.cc", "#include <xrt/xrt_bo.h>\n", "ep/src/factory.cc includes xrt/xrt_bo.h"),
    ("ep/src/factory.cc", '#include "factory.h"\n', "ep/src/factory.cc includes factory.h"),
    ("kernels/op/design.py", "import kernels.sim\nimport onnx\n", "kernels/op/design.py imports onnx"),
    ("kernels/op/design.py", f"import {PACKAGE}\n", f"kernels/op/design.py imports {PACKAGE}"),
    ("graph_passes/fuse.py", "import onnxruntime\n", "graph_passes/fuse.py imports onnxruntime outside a function"),
    ("graph_passes/fuse.py", "def f():\n    import onnxruntime\n", "graph_passes/fuse.py imports onnxruntime"),
    ("graph_passes/fuse.py", "from .. import errors\n", f"graph_passes/fuse.py imports {PACKAGE}.errors"),
    ("graph_passes/sub/fuse.py", "from ... import cli\n", f"graph_passes/sub/fuse.py imports {PACKAGE}.cli"),
    ("graph_passes/fuse.py", "import gguf\n", "graph_passes/fuse.py imports gguf"),
    (f"python/{PACKAGE}/cli.py", "try:\n    import onnxruntime\nexcept ImportError:\n    pass\n", "outside a function"),
    (f"python/{PACKAGE}/cli.py", "class A:\n    from onnxruntime import SessionOptions\n", "outside a function"),
    (f"python/{PACKAGE}/cli.py", "def f():\n    import torch\n", f"python/{PACKAGE}/cli.py imports torch"),
    (f"python/{PACKAGE}/cli.py", "from tests import tiny\n", f"python/{PACKAGE}/cli.py imports tests.tiny"),
    (f"python/{PACKAGE}/cli.py", "import ep\n", f"python/{PACKAGE}/cli.py imports ep"),
    (f"python/{PACKAGE}/cli.py", "import graph_passes\n", f"python/{PACKAGE}/cli.py imports graph_passes"),
]


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_a_legal_tree_has_no_violations(tmp_path: Path) -> None:
    assert violations(plant(tmp_path, LEGAL)) == []


@pytest.mark.parametrize(("file", "text", "message"), PLANTED)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, text: str, message: str) -> None:
    found = violations(plant(tmp_path, LEGAL | {file: text}))
    assert len(found) == 1
    assert message in found[0]
