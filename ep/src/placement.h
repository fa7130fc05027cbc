// Tells where each node runs and why: the report file that `explain` reads, the one-line summary, and strict mode's
// refusal.
#pragma once

#include <string>

#include "ep/src/graph.h"
#include "ep/src/policy.h"

namespace ryzen_npu_gemma::ep {

// Tab-separated, header first: domain, op_type, name, device (host | cpu), reason, value, macs_per_token. Reason and
// value tell why a node is left to the CPU EP, or why a claimed one is on the host (`why_host`, empty when the host was
// asked for). Written to a temporary sibling and renamed. Throws Error when the file cannot be written.
struct WhyHost {
  std::string reason, value;
};
void WritePlacementReport(const std::string& path, const Graph& graph, const Policy& policy, const WhyHost& why_host);

// "takes 326 of 334 nodes, 100.0 % of the multiply-adds of weights".
std::string PlacementSummary(const Policy& policy);

// The nodes of a kind that the EP takes but was not able to, each with its reason; empty when there are none.
std::string RefusedNodes(const Graph& graph, const Policy& policy);

}  // namespace ryzen_npu_gemma::ep
