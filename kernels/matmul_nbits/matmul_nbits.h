// y_MN = a_MK * w_NK^T with w in 4 or 8 bits, fp32 activations and accumulation.
//
// One row of activations (decode) dequantises and projects in one pass and never writes the weights back (FusedDQP);
// many rows (prefill) dequantise a panel that stays in L1/L2 and reuse it for a block of rows (tiled matmul).
//
// The host reads a repack of the file's Q4NX blocks: no padding, one sequential stream a strip.
//
//   strip = 16 rows of w (rows past N are zero); strips are contiguous, a strip is its K/32 groups in order
//   group, bits = 4, 320 bytes (five cache lines)
//     [0, 32)    bf16 scale[16]
//     [32, 64)   bf16 min[16]
//     [64, 320)  4 chunks of 8 columns; chunk = u32 word[16], word r holds row r: column c of the chunk at bit 4c
//   group, bits = 8, 544 bytes
//     [0, 32)    bf16 scale[16]
//     [32, 544)  8 chunks of 4 columns; chunk = u32 word[16], word r holds row r: column c of the chunk at byte c
//
// For accuracy=fast the parameters of 4-bit groups are rounded, to 16 bits for both, which makes 4.5 bits a weight of
// 5: decode reads memory and does little else. Not the minimum is rounded but the group's centre, min + 7.5 scale: it
// is small, so its steps are. The rounding adds 0.1 to 0.5 % to the variance of Q4NX's own (docs/accuracy.md).
//
//   strip, Parameters::kRounded = a head, then pairs of groups; an odd last pair ends with its first group's chunks
//     head, 64 bytes   bf16 scale_unit[16], bf16 centre_unit[16]
//     pair, 576 bytes  [0, 64)    of either group i16 p[16]; with s = p & 127 and c = p >> 7, which is -255..255,
//                                 w = scale_unit_r * s * (q - 7.5) + centre_unit_r * c
//                      [64, 320)  the chunks of the first group, as above; q is 15 - q of the file where its scale was
//                                 below zero
//                      [320, 576) those of the second
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/aligned_buffer.h"

namespace ryzen_npu_gemma::kernels {

inline constexpr int64_t kStripRows = 16;
inline constexpr int64_t kStripGroupBytes4 = 320;
inline constexpr int64_t kStripGroupBytes8 = 544;
inline constexpr int64_t kGroupWordBytes4 = 256;  // chunks of a group
inline constexpr float kCentreCode = 7.5f;
inline constexpr int kScaleBits = 7;  // of 16, the lower ones
inline constexpr int64_t kStripHeadBytes = 64;
inline constexpr int64_t kPairParameterBytes = 64;
inline constexpr int64_t kPairBytes = kPairParameterBytes + 2 * kGroupWordBytes4;

enum class Parameters { kBfloat16, kRounded };

// Shape of a packed matrix. K is a multiple of 32; bits is 4 or 8; rounded parameters are for 4 bits.
struct NBitsShape {
  int64_t N = 0;
  int64_t K = 0;
  int bits = 4;
  Parameters parameters = Parameters::kBfloat16;

  int64_t strips() const { return (N + kStripRows - 1) / kStripRows; }
  int64_t groups() const { return K / 32; }
  int64_t group_bytes() const { return bits == 4 ? kStripGroupBytes4 : kStripGroupBytes8; }  // kBfloat16
  int64_t words_offset(int64_t g) const {  // of the chunks of group g in its strip
    return parameters == Parameters::kRounded
               ? kStripHeadBytes + g / 2 * kPairBytes + kPairParameterBytes + g % 2 * kGroupWordBytes4
               : g * group_bytes() + (bits == 4 ? 64 : 32);
  }
  int64_t strip_bytes() const {
    return parameters == Parameters::kRounded
               ? kStripHeadBytes + (groups() + 1) / 2 * kPairParameterBytes + groups() * kGroupWordBytes4
               : groups() * group_bytes();
  }
  int64_t packed_bytes() const { return strips() * strip_bytes(); }
};

// The shape as accuracy=fast packs it.
inline NBitsShape FastShape(NBitsShape shape) {
  if (shape.bits == 4) shape.parameters = Parameters::kRounded;
  return shape;
}

// Repacks strips [strip_begin, strip_end) of the file's Q4NX blocks. `blocks` holds q4nx::BlockCount(N, K) blocks. With
// rounded parameters, a row with one that is not finite is NaN whole.
void PackStrips(const NBitsShape& shape, const uint8_t* blocks, int64_t strip_begin, int64_t strip_end,
                uint8_t* packed);

// Writes y[m, n] for every row m < M and every row n < N of the strips [strip_begin, strip_end).
//   a       [M, K] fp32, rows `lda` apart
//   shape   parameters in bfloat16
//   packed  as above, 64-byte aligned, the whole matrix (the kernel finds its strips)
//   y       [M, N] fp32, rows `ldy` apart; other columns are not touched
using MatMulNBitsFn = void (*)(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
                               int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy);

MatMulNBitsFn SelectMatMulNBits();

#define KERNEL(required, name) std::remove_pointer_t<MatMulNBitsFn> name;
#include "kernels/matmul_nbits/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
