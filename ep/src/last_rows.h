// Where a model gives the last position's logits alone, the last layer's queries, attention and MLP are read in their
// last row only; its keys and values go into the cache, and stay whole. Found by asking, from the end to the beginning,
// which rows of each value somebody needs.
#pragma once

#include <string>
#include <vector>

#include "ep/src/graph.h"
#include "ep/src/policy.h"

namespace ryzen_npu_gemma::ep {

// `activations` with one row for each that is computed row by row and of which nobody in the region reads another than
// the last. What leaves the region, by `output_names`, is needed whole.
Activations NeededRows(const Graph& graph, Activations activations, const std::vector<std::string>& output_names);

}  // namespace ryzen_npu_gemma::ep
