#include "kernels/qk_norm_rope/qk_norm_rope.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<QkNormRopeFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/qk_norm_rope/kernels.inc"
#undef KERNEL
};

}  // namespace

QkNormRopeFn SelectQkNormRope() {
  static const QkNormRopeFn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
