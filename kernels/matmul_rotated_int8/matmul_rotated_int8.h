// y_MN = a_MK * w_NK^T for prompts (accuracy=fast): 4-bit weights are rotated as the activations are
// (quantize_rotated_rows.h) and rounded again, to 8 bits with one scale for 128 columns of a row. Then a span of 128
// columns is one chain of integer products and two fp32 operations, where groups of 32 with a scale and a centre each
// (matmul_nbits_int8.h) take sixteen.
//
//   y_mn = sum over spans p of  a_scale_mp * w_scale_np * sum_c w_code_npc a_code_mpc        (w_scale holds the 1/64)
//
// RotateStripReference says what the codes are, to the bit: sums of 16 codes q in a group are whole numbers, from there
// on 16-bit fixed point, which makes the error of the codes 1.001 times as large
// (measured, tests/kernels/matmul_rotated_int8_test.cc).
//
// Rotating a strip costs time that many rows must share: kLeastRotatedRows, where a prompt of the real 270M is 1.1
// times as fast as in groups of 32, and one of 32 tokens as fast (on Zen 5).
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/quantize_rotated_rows/quantize_rotated_rows.h"

namespace ryzen_npu_gemma::kernels {

inline constexpr int64_t kSpanGroups = kSpanColumns / 32;
inline constexpr int64_t kLeastRotatedRows = 48;

// 128 rotated columns of a strip: word i of a row meets bytes 4i..4i+3 of a RotatedSpan.
struct RotatedStrip {
  alignas(64) int8_t code[kSpanColumns / 4][kStripRows][4];
  alignas(64) float scale[kStripRows];
  alignas(64) int32_t zero[kStripRows];  // - kRotatedZero * sum of the row's codes
};

// Rotates 128 columns of a strip: its groups from 4 span on.
void RotateStripReference(const NBitsShape& shape, const uint8_t* packed_strip, int64_t span, RotatedStrip& strip);

// Writes y[m, n] for every row m < M and every row n < N of the strips [strip_begin, strip_end).
//   shape   bits = 4, rounded parameters, K a multiple of 128
//   a       [K/128, M], as QuantizeRotatedRows writes it
//   packed  the whole matrix, 64-byte aligned (the kernel finds its strips)
//   y       [M, N] fp32, rows `ldy` apart; other columns are not touched
using MatMulRotatedInt8Fn = void (*)(const NBitsShape& shape, const RotatedSpan* a, int64_t M, const uint8_t* packed,
                                     int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy);

MatMulRotatedInt8Fn SelectMatMulRotatedInt8();

// Whether this machine has a row that is faster than MatMulNBitsInt8 with so many rows of such a matrix.
bool RotatingPays(const NBitsShape& shape, int64_t M);

#define KERNEL(required, name) std::remove_pointer_t<MatMulRotatedInt8Fn> name;
#include "kernels/matmul_rotated_int8/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
