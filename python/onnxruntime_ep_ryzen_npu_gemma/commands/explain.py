"""`explain`: which node of a model runs where, and why it is not taken where it is not.

Of a converted folder it shows the execution provider's decisions, of an exporter's graph those of the passes.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxruntime_ep_ryzen_npu_gemma.placement import Placement

__all__ = ["add_parser", "main"]

_LEGEND = """\
npu and host are RyzenNPUGemmaEP (host: on the CPU), cpu is onnxruntime's own CPU provider. Multiply-adds are those of
the matrix products with weights, for one token."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command's arguments."""
    parser = subparsers.add_parser(
        "explain",
        help="show which node runs on the NPU, on the host or on onnxruntime's CPU provider",
        description="Makes a session of the model and shows for every node where it runs; for nodes left to "
        "onnxruntime's CPU provider the reason, and the value that it is about. Of an exported graph it shows what "
        "`convert --from-onnx` would make of every node, and why not.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder that `convert` wrote, or an exporter's .onnx file")
    parser.add_argument(
        "--all", action="store_true", help="one line for each node, not one for equal nodes of all layers"
    )
    parser.add_argument("--device", choices=("auto", "npu", "host"), default="auto", help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="print one object with the nodes and the sums")


def main(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        Problem: the folder is not a converted model, or the execution provider cannot be used.
    """
    from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder
    from onnxruntime_ep_ryzen_npu_gemma.session import open_session

    if args.model.endswith(".onnx"):
        return _explain_passes(args)
    model = open_model_folder(args.model).model_path
    _, placement = open_session(model, device=args.device)
    print(json.dumps(_result(args.model, placement)) if args.json else _text(placement, every_node=args.all))
    return 0


def _explain_passes(args: argparse.Namespace) -> int:
    from pathlib import Path

    from onnxruntime_ep_ryzen_npu_gemma.console import count, percent, table
    from onnxruntime_ep_ryzen_npu_gemma.fusion_nodes import fused_nodes
    from onnxruntime_ep_ryzen_npu_gemma.placement import layer_pattern

    nodes = fused_nodes(Path(args.model))
    total = sum(node.macs_per_token for node in nodes)
    fused = sum(node.macs_per_token for node in nodes if node.decision == "fused")
    if args.json:
        share = fused / total if total else 0.0
        print(
            json.dumps({"model": args.model, "share_of_multiply_adds": share, "nodes": [vars(node) for node in nodes]})
        )
        return 0
    groups: dict[tuple[str, ...], list[int]] = {}
    for node in nodes:
        name = node.name if args.all else layer_pattern(node.name)
        why = f"{node.reason}: {node.value}" if node.value else node.reason
        groups.setdefault((node.decision, node.op, name, why), []).append(node.macs_per_token)
    rows = [
        (*key[:3], str(len(macs)), count(sum(macs)), percent(sum(macs) / total if total else 0.0), key[3])
        for key, macs in groups.items()
    ]
    sums = ("nodes", "multiply-adds", "share")
    print(table(("decision", "op", "name", *sums, "why"), rows, right=frozenset(sums)))
    print(f"\n{percent(fused / total if total else 0.0)} of the multiply-adds with weights are fused")
    return 0


def _result(model: str, placement: Placement) -> dict[str, Any]:
    from onnxruntime_ep_ryzen_npu_gemma.placement import group_nodes

    def sums(*keys: str) -> list[dict[str, Any]]:
        groups = group_nodes(placement.nodes, lambda node: tuple(getattr(node, key) for key in keys))
        return [
            {key: getattr(group.nodes[0], key) for key in keys}
            | {
                "nodes": len(group.nodes),
                "macs_per_token": group.macs_per_token,
                "share_of_multiply_adds": group.share,
            }
            for group in groups
        ]

    return {
        "model": model,
        "placement": placement.summary(),
        "by_device": sums("device"),
        "by_op": sums("device", "op"),
        "nodes": [vars(node) for node in placement.nodes],
    }


def _text(placement: Placement, *, every_node: bool) -> str:
    if not placement.nodes:
        return placement.sentence()
    name = "name" if every_node else "module"
    sections = (("device",), ("device", "op"), ("device", "op", name, "why"))
    return "\n\n".join((placement.sentence(), *(_section(placement, keys) for keys in sections), _LEGEND))


def _section(placement: Placement, keys: tuple[str, ...]) -> str:
    from onnxruntime_ep_ryzen_npu_gemma.console import count, percent, table
    from onnxruntime_ep_ryzen_npu_gemma.placement import DEVICES, group_nodes

    groups = group_nodes(placement.nodes, lambda node: tuple(getattr(node, key) for key in keys))
    if keys[-1] in ("device", "op"):  # sums; single nodes stay in the order of the graph
        groups.sort(key=lambda group: (DEVICES.index(group.nodes[0].device), -group.macs_per_token, -len(group.nodes)))
    sums = ("nodes", "multiply-adds", "share")
    rows = [
        (
            *(getattr(group.nodes[0], key) for key in keys[:3]),
            str(len(group.nodes)),
            count(group.macs_per_token),
            percent(group.share),
            *(getattr(group.nodes[0], key) for key in keys[3:]),
        )
        for group in groups
    ]
    return table((*keys[:3], *sums, *keys[3:]), rows, right=frozenset(sums))
