// Which nodes the EP takes, and why it leaves the others: a pure function of the plain graph.
//
// The EP works on activations: fp32 tensors [1, rows, width] whose width is known when the session is made and whose
// rows are one of a few symbols ("sequence", or a constant). Every rule below is a rule on activations, so that a
// claimed node never meets a shape at run time that it was not claimed for. Beside them stand scalars, int64 or bool
// tensors of one element: the arithmetic by which a graph learns how long its past is.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ep/src/graph.h"

namespace ryzen_npu_gemma::ep {

struct Activation {
  std::string rows;  // "=1" for a constant, else the symbol's name
  int64_t width = 0;
  bool operator==(const Activation&) const = default;
};

// The rows of an activation whose dimension 1 is `dim`.
std::string RowsKey(const Value& value, const Dim& dim);

// Activations by value name.
using Activations = std::map<std::string, Activation, std::less<>>;

struct Decision {
  bool claimed = false;
  bool claimable = false;  // its operator is one that the EP knows
  std::string reason;      // why not, when not claimed
  std::string value;       // what was found that caused it
  int64_t macs_per_token = 0;
};

// Types of the scalars, by value name.
using Scalars = std::map<std::string, DataType, std::less<>>;

struct Policy {
  std::vector<Decision> decisions;  // one a node of the graph
  Scalars scalars;                  // of every claimed node's output and every scalar that comes from outside
  Activations activations;          // of every claimed node's output and every activation that comes from outside
};

// `known` is the policy of the larger graph that this one is a part of.
Policy Decide(const Graph& graph, const Policy* known = nullptr);

// Reads one attribute; a missing one, or one of another type, is `fallback`.
template <class T>
T AttributeOr(const Node& node, std::string_view name, T fallback) {
  const auto it = node.attributes.find(name);
  if (it == node.attributes.end()) return fallback;
  const T* value = std::get_if<T>(&it->second);
  return value ? *value : fallback;
}

}  // namespace ryzen_npu_gemma::ep
