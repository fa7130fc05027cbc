#include "kernels/gelu_mul/gelu_mul.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<GeluMulFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/gelu_mul/kernels.inc"
#undef KERNEL
};

}  // namespace

GeluMulFn SelectGeluMul() {
  static const GeluMulFn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
