// Activations in 8 bits for prompts: 128 columns are rotated, then share one scale.
//
//   r = H x,  scale = max |r| / 127,  code = r * (127 / max |r|) rounded to nearest even, in -127..127
//
// H is the Hadamard matrix of 64 (entries +1 and -1, natural order), taken of the columns c with bit 2 of c clear and
// of those with it set, apart: a strip's words hold such columns in the low and high halves of their lanes
// (matmul_nbits.h). A product of two vectors is 1/64 of that of their rotations. An outlier, which would make the scale
// of its whole group, is spread over 64 columns by it: on Gemma3-270M one scale for 128 rotated columns rounds a third
// as much away, in KL divergence, as one for 32 plain ones (docs/accuracy.md).
//
// A span that holds a NaN, an infinity or sums that overflow has scale NaN. One that is nowhere as large as
// kSmallestMagnitude is zero.
#pragma once

#include <cstdint>
#include <type_traits>

namespace ryzen_npu_gemma::kernels {

inline constexpr int64_t kSpanColumns = 128;
inline constexpr int kRotatedZero = 128;

struct RotatedSpan {
  uint8_t code[kSpanColumns];  // the code of rotated column c, plus kRotatedZero, at RotatedPosition(c)
  float scale;
};
static_assert(sizeof(RotatedSpan) == 132);

// Bytes 0 and 1 of a word come from the low halves of two registers of weights, bytes 2 and 3 from the high halves.
constexpr int64_t RotatedPosition(int64_t column) {
  return column / 8 * 8 + column % 4 / 2 * 4 + column % 8 / 4 * 2 + column % 2;
}

//   x  [rows, K] fp32, rows `ldx` apart; K is a multiple of 128
//   q  [K/128, rows], spans `ldq` rows apart: a product goes through the rows of a few spans
using QuantizeRotatedRowsFn = void (*)(const float* x, int64_t rows, int64_t ldx, int64_t K, RotatedSpan* q,
                                       int64_t ldq);
QuantizeRotatedRowsFn SelectQuantizeRotatedRows();

#define KERNEL(required, name) std::remove_pointer_t<QuantizeRotatedRowsFn> name;
#include "kernels/quantize_rotated_rows/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
