#include "ep/src/last_rows.h"

#include <algorithm>
#include <set>
#include <string_view>

namespace ryzen_npu_gemma::ep {
namespace {

constexpr std::string_view kRowWise[] = {"RMSNormalization", "MatMulNBits", "Gelu", "Add", "Mul"};

bool IsRowWise(const Node& node) {
  return node.op_type == "FlowQKV" || std::ranges::find(kRowWise, node.op_type) != std::end(kRowWise);
}

// Whether the last row of the node's result takes no more than the last row of this input.
bool TakesLastRow(const Node& node, std::size_t input, bool result_is_whole) {
  if (node.op_type == "Gather") return input == 0;
  if (node.op_type == "FlowQKV" && input != 0) return false;  // a query sees all keys before it
  return IsRowWise(node) && !result_is_whole;
}

}  // namespace

Activations NeededRows(const Graph& graph, Activations activations, const std::vector<std::string>& output_names) {
  const std::set<std::string_view> leave(output_names.begin(), output_names.end());
  std::vector<bool> whole(graph.values.size());  // by value: whether more than its last row is needed
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    whole[i] = graph.values[i].consumers.empty() || leave.contains(graph.values[i].name);
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const int y = node->outputs.at(0);
    const auto activation = activations.find(graph.values[y].name);
    if (!IsRowWise(*node) || activation == activations.end() || activation->second.rows == "=1") whole[y] = true;
    if (!whole[y]) activation->second.rows = "=1";
    for (std::size_t i = 0; i < node->inputs.size(); ++i)
      if (const int x = node->inputs[i]; x >= 0 && !TakesLastRow(*node, i, whole[y])) whole[x] = true;
  }
  return activations;
}

}  // namespace ryzen_npu_gemma::ep
