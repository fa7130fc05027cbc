#include "kernels/matmul_nbits/matmul_nbits.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<MatMulNBitsFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/matmul_nbits/kernels.inc"
#undef KERNEL
};

}  // namespace

MatMulNBitsFn SelectMatMulNBits() {
  static const MatMulNBitsFn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
