#include "ep/src/partition.h"

#include <algorithm>

namespace ryzen_npu_gemma::ep {

std::vector<std::vector<int>> Partition(const Graph& graph, const std::vector<bool>& claimed) {
  std::vector<std::vector<int>> regions;
  std::vector<int> level(graph.nodes.size(), -1);  // of an unclaimed node: the highest level it depends on, -1 for none
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    int own = claimed[i] ? 0 : -1;
    for (int input : graph.nodes[i].inputs) {
      const int producer = input < 0 ? -1 : graph.values[input].producer;
      if (producer < 0) continue;
      const bool re_enters = claimed[i] && !claimed[producer];
      own = std::max(own, level[producer] + (re_enters ? 1 : 0));
    }
    level[i] = own;
    if (!claimed[i]) continue;
    if (own >= static_cast<int>(regions.size())) regions.resize(own + 1);
    regions[own].push_back(i);
  }
  std::erase_if(regions, [](const auto& region) { return region.empty(); });
  return regions;
}

}  // namespace ryzen_npu_gemma::ep
