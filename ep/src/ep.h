// One session's execution provider: claims regions (GetCapability) and compiles them (Compile).
#pragma once

#include <memory>
#include <string>

#include "ep/src/options.h"
#include "ep/src/ort.h"
#include "ep/src/placement.h"
#include "ep/src/policy.h"
#include "ep/src/profile_file.h"
#include "ep/src/weights.h"

namespace ryzen_npu_gemma::ep {

class Ep : public OrtEp {
 public:
  Ep(const Api& api, WeightStore& weights, Options options, WhyHost why_host, std::string refusal,
     const OrtLogger* logger);

 private:
  static const char* ORT_API_CALL GetNameImpl(const OrtEp* self) noexcept;
  static OrtStatus* ORT_API_CALL GetCapabilityImpl(OrtEp* self, const OrtGraph* graph,
                                                   OrtEpGraphSupportInfo* support) noexcept;
  static OrtStatus* ORT_API_CALL CompileImpl(OrtEp* self, const OrtGraph** graphs, const OrtNode** fused_nodes,
                                             size_t count, OrtNodeComputeInfo** infos,
                                             OrtNode** context_nodes) noexcept;
  static void ORT_API_CALL ReleaseNodeComputeInfosImpl(OrtEp* self, OrtNodeComputeInfo** infos, size_t count) noexcept;
  static OrtStatus* ORT_API_CALL IsConcurrentRunSupportedImpl(OrtEp* self, bool* supported) noexcept;
  static OrtStatus* ORT_API_CALL CreateProfilerImpl(OrtEp* self, OrtEpProfilerImpl** profiler) noexcept;

  void Claim(const OrtGraph* graph, OrtEpGraphSupportInfo* support);
  std::string Report(const Graph& graph);
  OrtNodeComputeInfo* CompileRegion(const OrtGraph* graph, const OrtNode* fused_node);

  const Api api_;
  WeightStore& weights_;
  const Options options_;
  const WhyHost why_host_;
  const std::string refusal_;  // why no session may be made with these options; empty: one may
  const OrtLogger* logger_;
  std::shared_ptr<ProfileFile> profile_;  // null: the option is not set, or no session may be made
  Policy policy_;                         // of the whole graph, as GetCapability last saw it
  Placements placements_;
  std::string failure_;  // why the session may not be made; Compile reports it
};

}  // namespace ryzen_npu_gemma::ep
