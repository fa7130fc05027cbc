#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<MatMulNBitsInt8Fn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/matmul_nbits_int8/kernels.inc"
#undef KERNEL
};

}  // namespace

MatMulNBitsInt8Fn SelectMatMulNBitsInt8() {
  static const MatMulNBitsInt8Fn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
