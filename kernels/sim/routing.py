"""Whether all streams fit through the switchboxes: negotiated shortest paths, the ports between neighbours shared.

A stream is a tree (several sinks hang on one circuit). Every border between two switchboxes has so many circuits in
each direction; mem tiles have none sideways. The compiler solves the same problem; it may find another routing, so
`route` proves only that one exists in this model.
"""

from __future__ import annotations

import heapq
from collections import defaultdict

from . import hardware
from .errors import DesignError
from .program import ArrayProgram, Place, Stream

Edge = tuple[Place, Place]
ROUNDS = 40


def route(program: ArrayProgram) -> dict[Stream, set[Edge]]:
    """Finds a path for every stream and sets its hops; raises if 40 rounds of rerouting do not resolve a conflict."""
    history: dict[Edge, float] = defaultdict(float)
    trees: dict[Stream, set[Edge]] = {}
    use: dict[Edge, int] = defaultdict(int)
    streams = sorted(program.streams, key=lambda s: -len(s.sinks))
    pending = streams
    for _ in range(ROUNDS):
        for stream in pending:
            for edge in trees.get(stream, ()):
                use[edge] -= 1
            trees[stream] = _tree(stream, program.columns, use, history)
            for edge in trees[stream]:
                use[edge] += 1
        over = {edge for edge, number in use.items() if number > capacity(edge)}
        if not over:
            for stream, edges in trees.items():
                stream.hops = _depth(stream, edges)
            return trees
        for edge in over:
            history[edge] += 1.0
        pending = [stream for stream in streams if trees[stream] & over]
    edge = max(over, key=lambda e: use[e] - capacity(e))
    names = [stream.fifo for stream in streams if edge in trees[stream]]
    raise DesignError(
        "no route",
        where=f"from {edge[0]} to {edge[1]}",
        found=f"{use[edge]} streams ({', '.join(names)})",
        limit=f"{capacity(edge)} circuits",
        do="Place the ends of these FIFOs nearer to each other, or in other columns.",
    )


def capacity(edge: Edge) -> int:
    """Circuits from one switchbox to its neighbour."""
    source, sink = edge
    if source.col != sink.col:
        return hardware.PORTS_SIDE
    return hardware.PORTS_NORTH if sink.row > source.row else hardware.PORTS_SOUTH


def _neighbours(place: Place, columns: int) -> list[Place]:
    around = []
    if place.row + 1 < hardware.ROWS:
        around.append(Place(place.col, place.row + 1))
    if place.row > 0:
        around.append(Place(place.col, place.row - 1))
    if place.kind != "mem":
        around += [Place(col, place.row) for col in (place.col - 1, place.col + 1) if 0 <= col < columns]
    return around


def _tree(stream: Stream, columns: int, use: dict[Edge, int], history: dict[Edge, float]) -> set[Edge]:
    """Grows from the source to the nearest sink that is not reached yet, until all are."""
    nodes = {stream.source.place}
    edges: set[Edge] = set()
    missing = {sink.place for sink in stream.sinks} - nodes
    while missing:
        cost = dict.fromkeys(nodes, 0.0)
        parent: dict[Place, Place] = {}
        queue = [(0.0, node) for node in sorted(nodes)]
        heapq.heapify(queue)
        while queue:
            so_far, node = heapq.heappop(queue)
            if so_far > cost[node]:
                continue
            if node in missing:
                break
            for other in _neighbours(node, columns):
                edge = (node, other)
                crowded = max(0, use[edge] + 1 - capacity(edge))
                new = so_far + (1.0 + history[edge]) * (1.0 + 4.0 * crowded)
                if new < cost.get(other, float("inf")):
                    cost[other], parent[other] = new, node
                    heapq.heappush(queue, (new, other))
        missing.discard(node)
        while node not in nodes:
            edges.add((parent[node], node))
            nodes.add(node)
            node = parent[node]
    return edges


def _depth(stream: Stream, edges: set[Edge]) -> int:
    """Switchboxes between the source and the farthest sink."""
    depth = {stream.source.place: 0}
    frontier = [stream.source.place]
    while frontier:
        node = frontier.pop()
        for source, sink in edges:
            if source == node and sink not in depth:
                depth[sink] = depth[node] + 1
                frontier.append(sink)
    return max(depth[sink.place] for sink in stream.sinks)
