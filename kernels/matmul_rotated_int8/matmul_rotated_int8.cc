#include "kernels/matmul_rotated_int8/matmul_rotated_int8.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<MatMulRotatedInt8Fn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/matmul_rotated_int8/kernels.inc"
#undef KERNEL
};

}  // namespace

MatMulRotatedInt8Fn SelectMatMulRotatedInt8() {
  static const MatMulRotatedInt8Fn fn = FirstSupported(kRows);
  return fn;
}

bool RotatingPays(const NBitsShape& shape, int64_t M) {
  return SelectMatMulRotatedInt8() != MatMulRotatedInt8Reference && shape.parameters == Parameters::kRounded &&
         shape.K % kSpanColumns == 0 && M >= kLeastRotatedRows;
}

}  // namespace ryzen_npu_gemma::kernels
