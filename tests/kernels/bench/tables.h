// The rows of every op's kernels.inc, under the name of the op's function type.
#pragma once

#include "kernels/cpu_features.h"
#include "tests/kernels/bench/operands.h"

namespace ryzen_npu_gemma::kernels {

#define KERNEL(required, name) {#name, required, name},
inline constexpr KernelRow<MatMulNBitsFn> kMatMulNBitsRows[] = {
#include "kernels/matmul_nbits/kernels.inc"
};
inline constexpr KernelRow<MatMulNBitsInt8Fn> kMatMulNBitsInt8Rows[] = {
#include "kernels/matmul_nbits_int8/kernels.inc"
};
inline constexpr KernelRow<MatMulRotatedInt8Fn> kMatMulRotatedInt8Rows[] = {
#include "kernels/matmul_rotated_int8/kernels.inc"
};
inline constexpr KernelRow<FlowAccumulateFn> kFlowAccumulateRows[] = {
#include "kernels/flow_attention/fast_kernels.inc"
};
inline constexpr KernelRow<ElementwiseFn> kElementwiseRows[] = {
#include "kernels/elementwise/kernels.inc"
};
inline constexpr KernelRow<RmsNormFn> kRmsNormRows[] = {
#include "kernels/rms_norm/kernels.inc"
};
inline constexpr KernelRow<GeluMulFn> kGeluMulRows[] = {
#include "kernels/gelu_mul/kernels.inc"
};
inline constexpr KernelRow<QkNormRopeFn> kQkNormRopeRows[] = {
#include "kernels/qk_norm_rope/kernels.inc"
};
inline constexpr KernelRow<QuantizeRowsFn> kQuantizeRowsRows[] = {
#include "kernels/quantize_rows/kernels.inc"
};
inline constexpr KernelRow<QuantizeRotatedRowsFn> kQuantizeRotatedRowsRows[] = {
#include "kernels/quantize_rotated_rows/kernels.inc"
};
inline constexpr KernelRow<KvStoreFn> kKvStoreRows[] = {
#include "kernels/kv_store/kernels.inc"
};
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
