// A span is eight registers. Three of the six stages of the rotation go across them, three across their lanes.
#include <cstring>
#include <limits>

#include "kernels/quantize_rotated_rows/quantize_rotated_rows.h"
#include "kernels/quantize_rows/quantize_rows.h"
#include "kernels/x86_avx512_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int kRegisters = 8;

// partner + x in lanes whose `bit` is clear, partner - x in the others; the partner is the lane with that bit turned.
template <int bit>
__m512 AddAcrossLanes(__m512 x) {
  static_assert(bit == 1 || bit == 2 || bit == 8);
  const auto sign = [](int lane) { return lane & bit ? -1.0f : 1.0f; };
  const __m512 signs = _mm512_setr_ps(sign(0), sign(1), sign(2), sign(3), sign(4), sign(5), sign(6), sign(7), sign(8),
                                      sign(9), sign(10), sign(11), sign(12), sign(13), sign(14), sign(15));
  __m512 partner;
  if constexpr (bit == 1) partner = _mm512_permute_ps(x, 0xb1);
  if constexpr (bit == 2) partner = _mm512_permute_ps(x, 0x4e);
  if constexpr (bit == 8) partner = _mm512_shuffle_f32x4(x, x, 0x4e);
  return _mm512_fmadd_ps(x, signs, partner);
}

void Rotate(__m512 (&x)[kRegisters]) {
#pragma GCC unroll 8
  for (__m512& v : x) v = AddAcrossLanes<8>(AddAcrossLanes<2>(AddAcrossLanes<1>(v)));
#pragma GCC unroll 3
  for (int step = 1; step < kRegisters; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kRegisters; ++i) {
      if (i & step) continue;
      const __m512 a = x[i], b = x[i + step];
      x[i] = _mm512_add_ps(a, b);
      x[i + step] = _mm512_sub_ps(a, b);
    }
  }
}

// Compared as integers, so that a NaN is larger than all.
float Largest(const __m512 (&x)[kRegisters]) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (const __m512 v : x) largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(v), magnitude));
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(largest))));
}

// 64 codes, in order of RotatedPosition.
__m512i Codes(const __m512* r, __m512 inverse) {
  __m512i code[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) code[i] = _mm512_cvtps_epi32(_mm512_mul_ps(r[i], inverse));
  // Packing leaves columns 4i..4i+3 of each register apart.
  const __m512i quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(code[0], code[1]), _mm512_packs_epi32(code[2], code[3]));
  const __m512i bytes = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, packed), order);
  return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
}

}  // namespace

void QuantizeRotatedRowsAvx512(const float* x, int64_t rows, int64_t ldx, int64_t K, RotatedSpan* q, int64_t ldq) {
  for (int64_t m = 0; m < rows; ++m, x += ldx) {
    for (int64_t k = 0; k < K; k += kSpanColumns) {
      RotatedSpan& span = q[k / kSpanColumns * ldq + m];
      __m512 r[kRegisters];
      for (int i = 0; i < kRegisters; ++i) r[i] = _mm512_loadu_ps(x + k + 16 * i);
      Rotate(r);
      const float max = Largest(r);
      const bool finite = max <= std::numeric_limits<float>::max();
      const float inverse = finite && max >= kSmallestMagnitude ? 127 / max : 0;
      span.scale = !finite ? std::numeric_limits<float>::quiet_NaN() : inverse == 0 ? 0 : max / 127;
      if (!finite) {
        std::memset(span.code, kRotatedZero, sizeof(span.code));
        continue;
      }
      _mm512_storeu_si512(span.code, Codes(r, _mm512_set1_ps(inverse)));
      _mm512_storeu_si512(span.code + 64, Codes(r + 4, _mm512_set1_ps(inverse)));
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
