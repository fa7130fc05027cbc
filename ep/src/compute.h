// A compiled region as ORT runs it: an OrtNodeComputeInfo around a HostProgram.
#pragma once

#include <memory>

#include "ep/src/device/host.h"
#include "ep/src/ort.h"
#include "ep/src/profile_file.h"

namespace ryzen_npu_gemma::ep {

class ComputeInfo : public OrtNodeComputeInfo {
 public:
  // profile: null, or the file that every run is written to
  ComputeInfo(const Api& api, Plan plan, const Options& options, std::shared_ptr<ProfileFile> profile);

 private:
  static OrtStatus* ORT_API_CALL CreateStateImpl(OrtNodeComputeInfo* self, OrtNodeComputeContext* context,
                                                 void** state);
  static OrtStatus* ORT_API_CALL ComputeImpl(OrtNodeComputeInfo* self, void* state, OrtKernelContext* context);
  static void ORT_API_CALL ReleaseStateImpl(OrtNodeComputeInfo* self, void* state);

  const Api api_;
  const int threads_;
  const std::shared_ptr<ProfileFile> profile_;
  HostProgram program_;
};

}  // namespace ryzen_npu_gemma::ep
