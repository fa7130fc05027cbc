// y_MN = a_MK * w_NK^T with w in 4 or 8 bits and activations in 8 bits (accuracy=fast): integer products and sums
// within a group of 32 columns, exact; fp32 over the groups.
//
//   y_mn = sum over groups g of
//            a_scale_mg * (scale_gn * sum_c (q_nc - 8) code_mc + (centre_gn + scale_gn / 2) * code_sum_mg)
//
// code_sum is the sum of the codes, not of the unrounded x: then the error of rounding x is sum_c w_nc e_mc, and
// w is centred on zero. With the exact sum it would be sum_c scale q_nc e_mc, whose q is not: 2.5 times the error for
// weights of a normal distribution (measured, tests/kernels/matmul_nbits_int8_test.cc).
//
// Weights are the strips of matmul_nbits.h. Their words of 8 nibbles split into bytes as they stand: word & 0x0f0f0f0f
// are the even columns, word >> 4 & 0x0f0f0f0f the odd ones, and QuantizedGroup holds its codes in that order.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/quantize_rows/quantize_rows.h"

namespace ryzen_npu_gemma::kernels {

// Writes y[m, n] for every row m < M and every row n < N of the strips [strip_begin, strip_end).
//   shape   rounded parameters if of 4 bits
//   a       [M, K/32], as QuantizeRows writes it
//   packed  the whole matrix, 64-byte aligned (the kernel finds its strips)
//   y       [M, N] fp32, rows `ldy` apart; other columns are not touched
using MatMulNBitsInt8Fn = void (*)(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed,
                                   int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy);

MatMulNBitsInt8Fn SelectMatMulNBitsInt8();

#define KERNEL(required, name) std::remove_pointer_t<MatMulNBitsInt8Fn> name;
#include "kernels/matmul_nbits_int8/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
