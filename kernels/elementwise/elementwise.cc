#include "kernels/elementwise/elementwise.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<ElementwiseFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/elementwise/kernels.inc"
#undef KERNEL
};

}  // namespace

ElementwiseFn SelectElementwise() {
  static const ElementwiseFn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
