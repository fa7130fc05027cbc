#include "ep/src/factory.h"

#include <map>
#include <string>

#include "ep/src/ep.h"
#include "ep/src/options.h"

namespace ryzen_npu_gemma::ep {
namespace {

constexpr uint32_t kVendorIdAmd = 0x1022;

// Sessions of every factory in the process share packed weights.
WeightStore& ProcessWeights() {
  static WeightStore store;
  return store;
}

std::map<std::string, std::string> SessionConfig(const Api& api, const OrtSessionOptions* options) {
  OrtKeyValuePairs* pairs = nullptr;
  api.Check(api.ort->GetSessionOptionsConfigEntries(options, &pairs));
  const char *const *keys = nullptr, *const *values = nullptr;
  std::size_t count = 0;
  api.ort->GetKeyValuePairs(pairs, &keys, &values, &count);
  std::map<std::string, std::string> config;
  for (std::size_t i = 0; i < count; ++i) config[keys[i]] = values[i];
  api.ort->ReleaseKeyValuePairs(pairs);
  return config;
}

}  // namespace

Factory::Factory(const Api& api) : OrtEpFactory{}, api_(api) {
  ort_version_supported = api.version;
  GetName = GetNameImpl;
  GetVendor = GetVendorImpl;
  GetVendorId = GetVendorIdImpl;
  GetVersion = GetVersionImpl;
  GetSupportedDevices = GetSupportedDevicesImpl;
  CreateEp = CreateEpImpl;
  ReleaseEp = ReleaseEpImpl;
  CreateAllocator = CreateAllocatorImpl;
  ReleaseAllocator = ReleaseAllocatorImpl;
  CreateDataTransfer = CreateDataTransferImpl;
  IsStreamAware = IsStreamAwareImpl;
}

const char* ORT_API_CALL Factory::GetNameImpl(const OrtEpFactory*) noexcept { return kEpName; }
const char* ORT_API_CALL Factory::GetVendorImpl(const OrtEpFactory*) noexcept { return "RyzenNPUGemmaEP contributors"; }
uint32_t ORT_API_CALL Factory::GetVendorIdImpl(const OrtEpFactory*) noexcept { return kVendorIdAmd; }
const char* ORT_API_CALL Factory::GetVersionImpl(const OrtEpFactory*) noexcept { return RYZEN_NPU_GEMMA_VERSION; }

// Exactly one device, since callers differ in what they do with two: the AMD NPU where onnxruntime lists one, else the
// CPU.
OrtStatus* ORT_API_CALL Factory::GetSupportedDevicesImpl(OrtEpFactory* self, const OrtHardwareDevice* const* devices,
                                                         size_t count, OrtEpDevice** ep_devices, size_t max_ep_devices,
                                                         size_t* ep_device_count) noexcept {
  auto& factory = *static_cast<Factory*>(self);
  const OrtApi& ort = *factory.api_.ort;
  *ep_device_count = 0;
  return Guard(factory.api_, [&] {
    const OrtHardwareDevice *npu = nullptr, *cpu = nullptr;
    for (size_t i = 0; i < count; ++i) {
      const OrtHardwareDeviceType type = ort.HardwareDevice_Type(devices[i]);
      if (!npu && type == OrtHardwareDeviceType_NPU && ort.HardwareDevice_VendorId(devices[i]) == kVendorIdAmd)
        npu = devices[i];
      if (!cpu && type == OrtHardwareDeviceType_CPU) cpu = devices[i];
    }
    const OrtHardwareDevice* device = npu ? npu : cpu;
    if (!device || max_ep_devices < 1) return;
    factory.api_.Check(factory.api_.ep->CreateEpDevice(self, device, nullptr, nullptr, &ep_devices[0]));
    *ep_device_count = 1;
  });
}

OrtStatus* ORT_API_CALL Factory::CreateEpImpl(OrtEpFactory* self, const OrtHardwareDevice* const*,
                                              const OrtKeyValuePairs* const*, size_t count,
                                              const OrtSessionOptions* session_options, const OrtLogger* logger,
                                              OrtEp** ep) noexcept {
  auto& factory = *static_cast<Factory*>(self);
  *ep = nullptr;
  return Guard(factory.api_, [&] {
    if (count != 1)
      throw Error(ErrorCode::kInvalidArgument,
                  "RyzenNPUGemmaEP runs on one device, it was given " + std::to_string(count));
    *ep = factory.MakeEp(session_options, logger);
  });
}

// Options or a device that cannot be had are no failure here: the Python module would answer it by making the session
// on the CPU alone. The Ep reports them from Compile, which is an error everywhere.
OrtEp* Factory::MakeEp(const OrtSessionOptions* session_options, const OrtLogger* logger) {
  Options options;
  std::string refusal;
  try {
    options = ParseOptions(SessionConfig(api_, session_options));
  } catch (const Error& e) {
    refusal = e.what();
  }
  const NpuProbe probe = ProbeNpu();
  const WhyHost why_host =
      probe.found ? WhyHost{"this version has no NPU kernels", probe.detail} : WhyHost{"no NPU", probe.detail};
  const std::string text = why_host.reason + ": " + why_host.value;
  if (options.device == DeviceChoice::kNpu)
    refusal = std::string("option ") + kOptionPrefix + "device=npu: " + text + "; use device=host or auto";
  const bool asked_for_host = options.device == DeviceChoice::kHost;
  if (refusal.empty() && !asked_for_host && !told_fallback_.exchange(true))
    api_.Log(logger, ORT_LOGGING_LEVEL_WARNING,
             "RyzenNPUGemmaEP runs on the CPU (device=host says so without this warning): " + text);
  return new Ep(api_, ProcessWeights(), std::move(options), asked_for_host ? WhyHost{} : why_host, std::move(refusal),
                logger);
}

void ORT_API_CALL Factory::ReleaseEpImpl(OrtEpFactory*, OrtEp* ep) noexcept { delete static_cast<Ep*>(ep); }

// Tensors stay in CPU memory: no allocator, no copies.
OrtStatus* ORT_API_CALL Factory::CreateAllocatorImpl(OrtEpFactory*, const OrtMemoryInfo*, const OrtKeyValuePairs*,
                                                     OrtAllocator** allocator) noexcept {
  *allocator = nullptr;
  return nullptr;
}
void ORT_API_CALL Factory::ReleaseAllocatorImpl(OrtEpFactory*, OrtAllocator*) noexcept {}
OrtStatus* ORT_API_CALL Factory::CreateDataTransferImpl(OrtEpFactory*, OrtDataTransferImpl** transfer) noexcept {
  *transfer = nullptr;
  return nullptr;
}
bool ORT_API_CALL Factory::IsStreamAwareImpl(const OrtEpFactory*) noexcept { return false; }

}  // namespace ryzen_npu_gemma::ep
