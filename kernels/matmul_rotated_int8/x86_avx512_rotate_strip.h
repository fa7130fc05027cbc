// RotateStripReference for AVX-512. A register holds two columns of 16 rows, as halves of 32-bit lanes, and one of the
// two sets of columns that are rotated apart is in the low halves: all stages go across registers.
// Included only by files that are compiled for AVX-512 F, BW, VL and VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/matmul_nbits/x86_avx512_vnni.h"
#include "kernels/matmul_rotated_int8/matmul_rotated_int8.h"
#include "kernels/matmul_rotated_int8/rotate_strip.h"
#include "kernels/quantize_rows/quantize_rows.h"

namespace ryzen_npu_gemma::kernels::avx512 {

// A whole number of 16 bits in both halves of its lane.
inline __m512i BothHalves(__m512i x) { return _mm512_mask_blend_epi16(0xaaaaaaaa, x, _mm512_slli_epi32(x, 16)); }

// The Hadamard matrix of 16 times x.
inline void Rotate16(__m512i (&x)[16]) {
#pragma GCC unroll 4
  for (int step = 1; step < 16; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (i & step) continue;
      const __m512i a = x[i], b = x[i + step];
      x[i] = _mm512_add_epi16(a, b);
      x[i + step] = _mm512_sub_epi16(a, b);
    }
  }
}

// The largest |w| that scale and centre allow.
inline __m512 Bound(const RoundedGroup4& group) {
  return _mm512_fmadd_ps(_mm512_set1_ps(kCentreCode), group.scale, _mm512_abs_ps(group.centre));
}

// Sums of 16 columns of a group, in units.  units: of a weight of 1
inline void RotateGroup(const RoundedGroup4& group, __m512 units, __m512i (&v)[16]) {
  const __m512i nibble = _mm512_set1_epi32(0x0f000f00);
  __m512i x[16];
#pragma GCC unroll 4
  for (int chunk = 0; chunk < 4; ++chunk) {
    const __m512i words = _mm512_load_si512(group.words + chunk * 64);
    x[4 * chunk] = _mm512_and_si512(_mm512_slli_epi32(words, 8), nibble);
    x[4 * chunk + 1] = _mm512_and_si512(_mm512_slli_epi32(words, 4), nibble);
    x[4 * chunk + 2] = _mm512_and_si512(words, nibble);
    x[4 * chunk + 3] = _mm512_and_si512(_mm512_srli_epi32(words, 4), nibble);
  }
  Rotate16(x);
  const __m512 multiplier = _mm512_mul_ps(_mm512_mul_ps(group.scale, units), _mm512_set1_ps(kMultiplierOne));
  const __m512 mean = _mm512_mul_ps(group.centre, units);
  const __m512i m = BothHalves(_mm512_cvtps_epi32(multiplier));
  x[0] = _mm512_sub_epi16(x[0], _mm512_set1_epi16(kMeanOf16));
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = _mm512_mulhrs_epi16(x[i], m);
  v[0] = _mm512_add_epi16(v[0], BothHalves(_mm512_cvtps_epi32(_mm512_mul_ps(mean, _mm512_set1_ps(16)))));
}

inline __m512i LargestHalf(__m512i x) {
  return _mm512_max_epu32(_mm512_and_si512(x, _mm512_set1_epi32(0xffff)), _mm512_srli_epi32(x, 16));
}

// What brings sums of at most `largest` to 127, as a multiplier of the product (a * b + 2^14) >> 15.
inline __m512i CodeMultiplier(__m512i largest) {
  const __m512i quotient = _mm512_cvttps_epi32(_mm512_div_ps(_mm512_set1_ps(127 * 32768), _mm512_cvtepi32_ps(largest)));
  return _mm512_mask_mov_epi32(quotient, _mm512_cmplt_epi32_mask(largest, _mm512_set1_epi32(128)),
                               _mm512_set1_epi32(32767));
}

inline void RotateStrip(const RoundedStrip4& packed, int64_t span, RotatedStrip& strip) {
  const auto group = [&](int g) { return packed.group(span * kSpanGroups / 2 + g / 2, g % 2); };
  const RoundedGroup4 groups[kSpanGroups] = {group(0), group(1), group(2), group(3)};
  const __m512 bound = _mm512_add_ps(_mm512_add_ps(Bound(groups[0]), Bound(groups[1])),
                                     _mm512_add_ps(Bound(groups[2]), Bound(groups[3])));
  const __mmask16 plain = _mm512_cmp_ps_mask(bound, _mm512_set1_ps(kSmallestMagnitude), _CMP_GE_OQ);
  const __m512 units = _mm512_maskz_div_ps(plain, _mm512_set1_ps(kUnitsOfBound), bound);
  __m512i v[kSpanGroups][16];
  for (int64_t g = 0; g < kSpanGroups; ++g) RotateGroup(groups[g], units, v[g]);
  __m512i largest[kSpanGroups] = {}, sum[kSpanGroups] = {};  // apart, so that nothing waits for one chain
  for (int i = 0; i < 16; ++i) {
    const __m512i a = _mm512_add_epi16(v[0][i], v[1][i]), b = _mm512_sub_epi16(v[0][i], v[1][i]);
    const __m512i c = _mm512_add_epi16(v[2][i], v[3][i]), d = _mm512_sub_epi16(v[2][i], v[3][i]);
    v[0][i] = _mm512_add_epi16(a, c);
    v[1][i] = _mm512_add_epi16(b, d);
    v[2][i] = _mm512_sub_epi16(a, c);
    v[3][i] = _mm512_sub_epi16(b, d);
#pragma GCC unroll 4
    for (int64_t g = 0; g < kSpanGroups; ++g) largest[g] = _mm512_max_epu16(largest[g], _mm512_abs_epi16(v[g][i]));
  }
  const __m512i to_code = CodeMultiplier(LargestHalf(
      _mm512_max_epu16(_mm512_max_epu16(largest[0], largest[1]), _mm512_max_epu16(largest[2], largest[3]))));
  const __m512i multiplier = BothHalves(to_code);
  for (int i = 0; i < 8; ++i) {
#pragma GCC unroll 4
    for (int64_t g = 0; g < kSpanGroups; ++g) {
      const __m512i even = _mm512_mulhrs_epi16(v[g][2 * i], multiplier);
      const __m512i odd = _mm512_mulhrs_epi16(v[g][2 * i + 1], multiplier);
      const __m512i code = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaa, even, _mm512_slli_epi16(odd, 8));
      sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_set1_epi8(1), code);
      _mm512_store_si512(strip.code[g * 8 + i], code);
    }
  }
  const __m512i code_sum = _mm512_add_epi32(_mm512_add_epi32(sum[0], sum[1]), _mm512_add_epi32(sum[2], sum[3]));
  _mm512_store_ps(strip.scale,
                  _mm512_div_ps(_mm512_mul_ps(bound, _mm512_set1_ps(kScaleOfBound)), _mm512_cvtepi32_ps(to_code)));
  _mm512_store_si512(strip.zero, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(code_sum, 7)));
}

}  // namespace ryzen_npu_gemma::kernels::avx512
