#include "ep/src/placement.h"

#include <unistd.h>

#include <algorithm>
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

std::vector<Placement> Placements::Update(const Graph& graph, const Policy& policy) {
  std::vector<Placement> placements;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const bool named = !node.outputs.empty() && node.outputs[0] >= 0;
    placements.push_back(
        {node.domain, node.op_type, node.name, named ? graph.values[node.outputs[0]].name : "", policy.decisions[i]});
  }
  std::vector<Placement> inlined;  // refused before, and no longer there
  for (const Placement& refused : refused_) {
    const bool there = std::any_of(placements.begin(), placements.end(), [&](const Placement& p) {
      return p.op_type == refused.op_type && p.output == refused.output;
    });
    if (!there) inlined.push_back(refused);
  }
  placements.insert(placements.begin(), inlined.begin(), inlined.end());
  refused_ = std::move(inlined);
  for (const Placement& p : placements)
    if (!p.decision.claimed && p.decision.claimable && !p.output.empty() &&
        std::none_of(refused_.begin(), refused_.end(), [&](const Placement& q) { return q.output == p.output; }))
      refused_.push_back(p);
  return placements;
}

void WritePlacementReport(const std::string& path, const std::vector<Placement>& placements, const WhyHost& why_host) {
  const std::string temporary = path + ".tmp" + std::to_string(::getpid());
  {
    std::ofstream file(temporary, std::ios::binary);
    file << "domain\top_type\tname\tdevice\treason\tvalue\tmacs_per_token\n";
    for (const Placement& p : placements) {
      const bool claimed = p.decision.claimed;
      file << Field(p.domain) << '\t' << Field(p.op_type) << '\t' << Field(p.name) << '\t' << (claimed ? "host" : "cpu")
           << '\t' << Field(claimed ? why_host.reason : p.decision.reason) << '\t'
           << Field(claimed ? why_host.value : p.decision.value) << '\t' << p.decision.macs_per_token << '\n';
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

std::string PlacementSummary(const std::vector<Placement>& placements) {
  int64_t taken = 0, taken_macs = 0, macs = 0;
  for (const Placement& p : placements) {
    taken += p.decision.claimed;
    macs += p.decision.macs_per_token;
    if (p.decision.claimed) taken_macs += p.decision.macs_per_token;
  }
  char share[64];
  std::snprintf(share, sizeof(share), "%.1f",
                macs ? 100.0 * static_cast<double>(taken_macs) / static_cast<double>(macs) : 0.0);
  return "takes " + std::to_string(taken) + " of " + std::to_string(placements.size()) + " nodes, " + share +
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
