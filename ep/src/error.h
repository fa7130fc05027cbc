// The one exception type of the EP. It never leaves the library: ort.h's Guard turns it into an OrtStatus.
#pragma once

#include <stdexcept>
#include <string>

namespace ryzen_npu_gemma::ep {

enum class ErrorCode { kFail, kInvalidArgument, kNotImplemented };

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace ryzen_npu_gemma::ep
