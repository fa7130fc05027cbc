// The only file that includes onnxruntime's headers: the C API, its calls checked, and the guard of the C ABI.
//
// Two onnxruntime copies may live in one process (the Python module and the one that onnxruntime-genai loads), so
// nothing here is global: every object carries the Api of the runtime that made it.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "ep/src/error.h"

namespace ryzen_npu_gemma::ep {

inline constexpr const char* kEpName = "RyzenNPUGemmaEP";
inline constexpr uint32_t kMinimumApi = 24;

struct Api {
  const OrtApi* ort = nullptr;
  const OrtEpApi* ep = nullptr;
  uint32_t version =
      0;  // min(what we were built with, what the runtime offers); stamped into every struct we hand over

  OrtStatus* Status(OrtErrorCode code, const char* message) const noexcept { return ort->CreateStatus(code, message); }

  // Turns a failed call into an Error.
  void Check(OrtStatus* status) const {
    if (!status) return;
    const std::string message = ort->GetErrorMessage(status);
    const OrtErrorCode code = ort->GetErrorCode(status);
    ort->ReleaseStatus(status);
    throw Error(code == ORT_INVALID_ARGUMENT ? ErrorCode::kInvalidArgument : ErrorCode::kFail, message);
  }

  void Log(const OrtLogger* logger, OrtLoggingLevel level, const std::string& message) const noexcept {
    if (OrtStatus* status =
            ort->Logger_LogMessage(logger, level, message.c_str(), ORT_TSTR("ryzen_npu_gemma"), 0, kEpName))
      ort->ReleaseStatus(status);
  }
};

// Every entry of the C ABI runs its body in here: no exception crosses.
template <class F>
OrtStatus* Guard(const Api& api, F&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const Error& e) {
    const OrtErrorCode code = e.code() == ErrorCode::kInvalidArgument  ? ORT_INVALID_ARGUMENT
                              : e.code() == ErrorCode::kNotImplemented ? ORT_NOT_IMPLEMENTED
                                                                       : ORT_FAIL;
    return api.Status(code, e.what());
  } catch (const std::bad_alloc&) {
    return api.Status(ORT_FAIL, "RyzenNPUGemmaEP: out of memory");
  } catch (const std::exception& e) {
    return api.Status(ORT_FAIL, e.what());
  } catch (...) {
    return api.Status(ORT_FAIL, "RyzenNPUGemmaEP: unknown exception");
  }
}

}  // namespace ryzen_npu_gemma::ep
