#include "ep/src/ep.h"

#include <algorithm>

#include "ep/src/compute.h"
#include "ep/src/graph_reader.h"
#include "ep/src/ort_profiler.h"
#include "ep/src/partition.h"
#include "ep/src/placement.h"

namespace ryzen_npu_gemma::ep {

Ep::Ep(const Api& api, WeightStore& weights, Options options, WhyHost why_host, std::string refusal,
       const OrtLogger* logger)
    : OrtEp{},
      api_(api),
      weights_(weights),
      options_(std::move(options)),
      why_host_(std::move(why_host)),
      refusal_(std::move(refusal)),
      logger_(logger) {
  ort_version_supported = api.version;
  GetName = GetNameImpl;
  GetCapability = GetCapabilityImpl;
  Compile = CompileImpl;
  ReleaseNodeComputeInfos = ReleaseNodeComputeInfosImpl;
  IsConcurrentRunSupported = IsConcurrentRunSupportedImpl;
  CreateProfiler = CreateProfilerImpl;
}

const char* ORT_API_CALL Ep::GetNameImpl(const OrtEp*) noexcept { return kEpName; }

OrtStatus* ORT_API_CALL Ep::GetCapabilityImpl(OrtEp* self, const OrtGraph* graph,
                                              OrtEpGraphSupportInfo* support) noexcept {
  auto& ep = *static_cast<Ep*>(self);
  return Guard(ep.api_, [&] { ep.Claim(graph, support); });
}

// ORT calls this more than once for a session (before functions are inlined, and after), and for the bodies of control
// flow: it must only look. A status returned from here is logged and dropped, so a refusal is kept for Compile, which
// ORT listens to.
void Ep::Claim(const OrtGraph* graph, OrtEpGraphSupportInfo* support) {
  const OrtNode* parent = nullptr;
  api_.Check(api_.ort->Graph_GetParentNode(graph, &parent));
  if (parent) return;

  const ReadGraphResult read = ReadGraph(api_, graph, ReadConstants::kSmall);
  policy_ = Decide(read.graph);
  failure_ = refusal_.empty() ? Report(read.graph) : refusal_;

  std::vector<bool> claimed;
  for (const Decision& decision : policy_.decisions)
    claimed.push_back(decision.claimed || !failure_.empty());  // all of a refused graph, so that Compile is called

  OrtNodeFusionOptions fusion{};
  fusion.ort_version_supported = api_.version;
  fusion.drop_constant_initializers = true;  // the plan holds its own copy, packed for the host
  for (const std::vector<int>& region : Partition(read.graph, claimed)) {
    std::vector<const OrtNode*> nodes;
    for (int i : region) nodes.push_back(read.nodes[i]);
    api_.Check(api_.ep->EpGraphSupportInfo_AddNodesToFuse(support, nodes.data(), nodes.size(), &fusion));
  }
}

// Tells where the nodes run, by report and log; returns why no session may be made of this graph, or nothing.
std::string Ep::Report(const Graph& graph) {
  const std::string refused = RefusedNodes(graph, policy_);
  if (!refused.empty() && options_.strict) return "strict: these nodes would run on the CPU EP: " + refused;
  if (!refused.empty())
    api_.Log(logger_, ORT_LOGGING_LEVEL_WARNING, "RyzenNPUGemmaEP leaves to the CPU EP: " + refused);

  const std::vector<Placement> placements = placements_.Update(graph, policy_);
  if (options_.log_partition_summary)
    api_.Log(logger_, ORT_LOGGING_LEVEL_WARNING, "RyzenNPUGemmaEP " + PlacementSummary(placements));
  try {
    if (!options_.placement_report.empty()) WritePlacementReport(options_.placement_report, placements, why_host_);
    if (!options_.profile.empty() && !profile_) profile_ = std::make_shared<ProfileFile>(options_.profile);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

OrtStatus* ORT_API_CALL Ep::CompileImpl(OrtEp* self, const OrtGraph** graphs, const OrtNode** fused_nodes, size_t count,
                                        OrtNodeComputeInfo** infos, OrtNode**) noexcept {
  auto& ep = *static_cast<Ep*>(self);
  std::fill_n(infos, count, nullptr);
  OrtStatus* status = Guard(ep.api_, [&] {
    if (!ep.failure_.empty()) throw Error(ErrorCode::kFail, "RyzenNPUGemmaEP: " + ep.failure_);
    for (size_t i = 0; i < count; ++i) infos[i] = ep.CompileRegion(graphs[i], fused_nodes[i]);
  });
  if (status) {
    ReleaseNodeComputeInfosImpl(self, infos, count);
    std::fill_n(infos, count, nullptr);
  }
  return status;
}

OrtNodeComputeInfo* Ep::CompileRegion(const OrtGraph* graph, const OrtNode* fused_node) {
  const ReadGraphResult read = ReadGraph(api_, graph, ReadConstants::kAll);
  const Policy policy = Decide(read.graph, &policy_);
  for (std::size_t i = 0; i < policy.decisions.size(); ++i)
    if (const Decision& d = policy.decisions[i]; !d.claimed)
      throw Error(ErrorCode::kFail, "RyzenNPUGemmaEP: node " + read.graph.nodes[i].name +
                                        " was claimed and is refused now: " + d.reason + " (" + d.value + ")");
  return new ComputeInfo(api_,
                         BuildPlan(read.graph, policy, InputNames(api_, fused_node), OutputNames(api_, fused_node),
                                   weights_, options_.accuracy),
                         options_, profile_);
}

void ORT_API_CALL Ep::ReleaseNodeComputeInfosImpl(OrtEp*, OrtNodeComputeInfo** infos, size_t count) noexcept {
  for (size_t i = 0; i < count; ++i) delete static_cast<ComputeInfo*>(infos[i]);
}

OrtStatus* ORT_API_CALL Ep::IsConcurrentRunSupportedImpl(OrtEp*, bool* supported) noexcept {
  *supported = true;
  return nullptr;
}

OrtStatus* ORT_API_CALL Ep::CreateProfilerImpl(OrtEp* self, OrtEpProfilerImpl** profiler) noexcept {
  *profiler = nullptr;
  const Api& api = static_cast<Ep*>(self)->api_;
  return Guard(api, [&] { *profiler = new OrtProfiler(api); });
}

}  // namespace ryzen_npu_gemma::ep
