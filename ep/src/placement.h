// Tells where each node runs and why: the report file that `explain` reads, the one-line summary, and strict mode's
// refusal.
#pragma once

#include <string>
#include <vector>

#include "ep/src/graph.h"
#include "ep/src/policy.h"

namespace ryzen_npu_gemma::ep {

struct Placement {
  std::string domain, op_type, name;
  std::string output;  // its first; names it as long as the session lives
  Decision decision;
};

// A session's nodes over several looks at its graph. Between two looks onnxruntime may put a function's body in the
// place of a node that was refused: that node keeps its line, with its reason and its work, and the parts come after.
class Placements {
 public:
  std::vector<Placement> Update(const Graph& graph, const Policy& policy);

 private:
  std::vector<Placement> refused_;
};

// Why claimed nodes run on the host; empty when the host was asked for.
struct WhyHost {
  std::string reason, value;
};

// Tab-separated, header first: domain, op_type, name, device (host | cpu), reason, value, macs_per_token. Reason and
// value tell why a node is left to the CPU EP, or why a claimed one is on the host. Written to a temporary sibling and
// renamed. Throws Error when the file cannot be written.
void WritePlacementReport(const std::string& path, const std::vector<Placement>& placements, const WhyHost& why_host);

// "takes 326 of 334 nodes, 100.0 % of the multiply-adds of weights".
std::string PlacementSummary(const std::vector<Placement>& placements);

// The nodes of a kind that the EP takes but was not able to, each with its reason; empty when there are none.
std::string RefusedNodes(const Graph& graph, const Policy& policy);

}  // namespace ryzen_npu_gemma::ep
