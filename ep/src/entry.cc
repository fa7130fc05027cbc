// The two symbols that onnxruntime looks for in an EP library.
#include <algorithm>
#include <cstdio>
#include <string>

#include "ep/src/factory.h"

namespace {

using namespace ryzen_npu_gemma::ep;

// A runtime "1.<minor>.<patch>" offers the API versions up to <minor>.
uint32_t RuntimeApi(const char* version) {
  unsigned major = 0, minor = 0;
  return std::sscanf(version, "%u.%u", &major, &minor) == 2 ? minor : 0;
}

}  // namespace

#define EP_EXPORT extern "C" __attribute__((visibility("default")))

EP_EXPORT OrtStatus* CreateEpFactories(const char*, const OrtApiBase* base, const OrtLogger*, OrtEpFactory** factories,
                                       size_t max_factories, size_t* factory_count) noexcept {
  *factory_count = 0;
  Api api;
  api.version = std::min<uint32_t>(ORT_API_VERSION, RuntimeApi(base->GetVersionString()));
  api.ort = base->GetApi(api.version);
  if (!api.ort) {  // a runtime whose version text we cannot read: any API it has can still say no
    const OrtApi* oldest = base->GetApi(1);
    return oldest ? oldest->CreateStatus(ORT_NOT_IMPLEMENTED,
                                         "RyzenNPUGemmaEP: cannot tell the version of this onnxruntime")
                  : nullptr;
  }
  return Guard(api, [&] {
    if (api.version < kMinimumApi)
      throw Error(ErrorCode::kNotImplemented, std::string("RyzenNPUGemmaEP needs onnxruntime 1.") +
                                                  std::to_string(kMinimumApi) + " or newer, found " +
                                                  base->GetVersionString() + "; pip install -U onnxruntime");
    if (max_factories < 1)
      throw Error(ErrorCode::kInvalidArgument, "RyzenNPUGemmaEP: onnxruntime offers no room for a factory");
    api.ep = api.ort->GetEpApi();
    factories[0] = new Factory(api);
    *factory_count = 1;
  });
}

EP_EXPORT OrtStatus* ReleaseEpFactory(OrtEpFactory* factory) noexcept {
  delete static_cast<Factory*>(factory);
  return nullptr;
}
