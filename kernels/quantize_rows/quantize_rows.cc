#include "kernels/quantize_rows/quantize_rows.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<QuantizeRowsFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/quantize_rows/kernels.inc"
#undef KERNEL
};

}  // namespace

QuantizeRowsFn SelectQuantizeRows() {
  static const QuantizeRowsFn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
