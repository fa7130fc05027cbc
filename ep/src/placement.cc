#include "ep/src/placement.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "ep/src/error.h"

namespace ryzen_npu_gemma::ep {
namespace {

std::string Field(std::string text) {
  for (char& c : text)
    if (c == '\t' || c == '\n' || c == '\r') c = ' ';
  return text;
}

std::string QualifiedType(const Node& node) {
  return node.domain.empty() ? node.op_type : node.domain + "::" + node.op_type;
}

}  // namespace

void WritePlacementReport(const std::string& path, const Graph& graph, const Policy& policy, const WhyHost& why_host) {
  const std::string temporary = path + ".tmp" + std::to_string(::getpid());
  {
    std::ofstream file(temporary, std::ios::binary);
    file << "domain\top_type\tname\tdevice\treason\tvalue\tmacs_per_token\n";
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      const Decision& decision = policy.decisions[i];
      file << Field(node.domain) << '\t' << Field(node.op_type) << '\t' << Field(node.name) << '\t'
           << (decision.claimed ? "host" : "cpu") << '\t' << Field(decision.claimed ? why_host.reason : decision.reason)
           << '\t' << Field(decision.claimed ? why_host.value : decision.value) << '\t' << decision.macs_per_token
           << '\n';
    }
    file.flush();
    if (!file) {
      std::remove(temporary.c_str());
      throw Error(ErrorCode::kFail,
                  "placement_report: cannot write " + path + "; give a path in a folder that exists and is writable");
    }
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) {
    std::remove(temporary.c_str());
    throw Error(ErrorCode::kFail, "placement_report: cannot rename to " + path + ": " + error.message());
  }
}

std::string PlacementSummary(const Policy& policy) {
  int64_t taken = 0, taken_macs = 0, macs = 0;
  for (const Decision& decision : policy.decisions) {
    taken += decision.claimed;
    macs += decision.macs_per_token;
    if (decision.claimed) taken_macs += decision.macs_per_token;
  }
  char share[64];
  std::snprintf(share, sizeof(share), "%.1f",
                macs ? 100.0 * static_cast<double>(taken_macs) / static_cast<double>(macs) : 0.0);
  return "takes " + std::to_string(taken) + " of " + std::to_string(policy.decisions.size()) + " nodes, " + share +
         " % of the multiply-adds of weights";
}

std::string RefusedNodes(const Graph& graph, const Policy& policy) {
  std::string text;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Decision& decision = policy.decisions[i];
    if (decision.claimed || !decision.claimable) continue;
    if (!text.empty()) text += "; ";
    text += QualifiedType(graph.nodes[i]) + " '" + graph.nodes[i].name + "': " + decision.reason;
    if (!decision.value.empty()) text += " (" + decision.value + ")";
  }
  return text;
}

}  // namespace ryzen_npu_gemma::ep
