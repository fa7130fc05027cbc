// Activations in 8 bits: x ~ scale * code, one scale for each row and 32 columns (accuracy=fast).
//
//   scale = max |x| / 127,  code = x * (127 / max |x|) rounded to nearest even, in -127..127
//
// A group that holds a NaN or an infinity has scale NaN and codes 0, so whatever is made of it is NaN. A group that is
// nowhere as large as kSmallestMagnitude, which 127 / max |x| must not overflow for, becomes zero.
#pragma once

#include <cstdint>
#include <type_traits>

namespace ryzen_npu_gemma::kernels {

inline constexpr float kSmallestMagnitude = 0x1p-100f;

inline constexpr int kCodeZero = 8;

struct QuantizedGroup {
  int8_t code[32];  // column c at CodePosition(c)
  float scale;
  int32_t zero;  // - kCodeZero * sum of the codes: products of q begin with it to become products of q - kCodeZero
};
static_assert(sizeof(QuantizedGroup) == 40);

// Of 8 columns, the even ones come first: a word of 8 nibbles splits so into two words of bytes (matmul_nbits_int8.h).
constexpr int64_t CodePosition(int64_t column) { return column / 8 * 8 + column % 2 * 4 + column % 8 / 2; }

//   x  [rows, K] fp32, rows `ldx` apart; K is a multiple of 32
//   q  [rows, K/32]
using QuantizeRowsFn = void (*)(const float* x, int64_t rows, int64_t ldx, int64_t K, QuantizedGroup* q);
QuantizeRowsFn SelectQuantizeRows();

#define KERNEL(required, name) std::remove_pointer_t<QuantizeRowsFn> name;
#include "kernels/quantize_rows/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
