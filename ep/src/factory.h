// The EP library's factory: offers one device, reads the session's options, makes the session's Ep.
#pragma once

#include <atomic>

#include "ep/src/device/probe.h"
#include "ep/src/ort.h"
#include "ep/src/weights.h"

namespace ryzen_npu_gemma::ep {

class Factory : public OrtEpFactory {
 public:
  explicit Factory(const Api& api);

 private:
  static const char* ORT_API_CALL GetNameImpl(const OrtEpFactory* self) noexcept;
  static const char* ORT_API_CALL GetVendorImpl(const OrtEpFactory* self) noexcept;
  static uint32_t ORT_API_CALL GetVendorIdImpl(const OrtEpFactory* self) noexcept;
  static const char* ORT_API_CALL GetVersionImpl(const OrtEpFactory* self) noexcept;
  static OrtStatus* ORT_API_CALL GetSupportedDevicesImpl(OrtEpFactory* self, const OrtHardwareDevice* const* devices,
                                                         size_t count, OrtEpDevice** ep_devices, size_t max_ep_devices,
                                                         size_t* ep_device_count) noexcept;
  static OrtStatus* ORT_API_CALL CreateEpImpl(OrtEpFactory* self, const OrtHardwareDevice* const* devices,
                                              const OrtKeyValuePairs* const* metadata, size_t count,
                                              const OrtSessionOptions* session_options, const OrtLogger* logger,
                                              OrtEp** ep) noexcept;
  static void ORT_API_CALL ReleaseEpImpl(OrtEpFactory* self, OrtEp* ep) noexcept;
  static OrtStatus* ORT_API_CALL CreateAllocatorImpl(OrtEpFactory* self, const OrtMemoryInfo* memory,
                                                     const OrtKeyValuePairs* options,
                                                     OrtAllocator** allocator) noexcept;
  static void ORT_API_CALL ReleaseAllocatorImpl(OrtEpFactory* self, OrtAllocator* allocator) noexcept;
  static OrtStatus* ORT_API_CALL CreateDataTransferImpl(OrtEpFactory* self, OrtDataTransferImpl** transfer) noexcept;
  static bool ORT_API_CALL IsStreamAwareImpl(const OrtEpFactory* self) noexcept;

  OrtEp* MakeEp(const OrtSessionOptions* session_options, const OrtLogger* logger);

  const Api api_;
  std::atomic<bool> told_fallback_ = false;
};

}  // namespace ryzen_npu_gemma::ep
