#include "kernels/quantize_rotated_rows/quantize_rotated_rows.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<QuantizeRotatedRowsFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/quantize_rotated_rows/kernels.inc"
#undef KERNEL
};

}  // namespace

QuantizeRotatedRowsFn SelectQuantizeRotatedRows() {
  static const QuantizeRotatedRowsFn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
