#include "kernels/rms_norm/rms_norm.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<RmsNormFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/rms_norm/kernels.inc"
#undef KERNEL
};

}  // namespace

RmsNormFn SelectRmsNorm() {
  static const RmsNormFn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
