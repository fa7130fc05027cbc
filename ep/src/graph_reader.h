// Reads an OrtGraph into the plain Graph of graph.h: the last place that knows ORT's graph types.
#pragma once

#include <vector>

#include "ep/src/graph.h"
#include "ep/src/ort.h"

namespace ryzen_npu_gemma::ep {

struct ReadGraphResult {
  Graph graph;
  std::vector<const OrtNode*> nodes;  // one a node of `graph`
};

enum class ReadConstants { kSmall, kAll };  // kSmall: only the bytes of constants up to 64 bytes (no weight is touched)

ReadGraphResult ReadGraph(const Api& api, const OrtGraph* graph, ReadConstants constants);

// Names of a node's inputs (absent ones left out) and outputs.
std::vector<std::string> InputNames(const Api& api, const OrtNode* node);
std::vector<std::string> OutputNames(const Api& api, const OrtNode* node);

}  // namespace ryzen_npu_gemma::ep
