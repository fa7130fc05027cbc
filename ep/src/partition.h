// Groups the claimed nodes into as few regions as possible, each of which can be fused into one node.
//
// A region may not hold two nodes with a path between them that leaves the region: fusing it would make a cycle. The
// level of a node counts how often a path to it re-entered claimed territory; claimed nodes of one level form one
// region.
#pragma once

#include <vector>

#include "ep/src/graph.h"

namespace ryzen_npu_gemma::ep {

// Node indices of each region, in the graph's order. `claimed` has one entry a node.
std::vector<std::vector<int>> Partition(const Graph& graph, const std::vector<bool>& claimed);

}  // namespace ryzen_npu_gemma::ep
