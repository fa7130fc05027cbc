// RotateStripReference for AVX-512, in two halves: a caller that takes the first half of the next span before the
// second of this one has no wait between them. A register holds columns of 16 rows as bytes or halves of 32-bit lanes,
// and all stages of the rotation go across registers or across the bytes of a half.
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
inline __m512i BothHalves(__m512 x) { return BothHalves(_mm512_cvtps_epi32(x)); }

// Three of the four stages over a group's columns. bytes[2 chunk] begins as columns 0 and 2 of each half of the chunk's
// words, in its two bytes, bytes[2 chunk + 1] as columns 1 and 3: what is rotated are sets of eight bytes. Their sums
// are within 0..120, their differences within +-60.
inline void RotateCodes(const uint8_t* words, __m512i (&bytes)[8]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512i x[8];
#pragma GCC unroll 4
  for (int chunk = 0; chunk < 4; ++chunk) {
    const __m512i codes = _mm512_load_si512(words + chunk * 64);
    x[2 * chunk] = _mm512_and_si512(codes, nibble);
    x[2 * chunk + 1] = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
  }
#pragma GCC unroll 3
  for (int step = 1; step < 8; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      if (i & step) continue;
      const __m512i a = x[i], b = x[i + step];
      x[i] = _mm512_add_epi8(a, b);
      x[i + step] = _mm512_sub_epi8(a, b);
    }
  }
  x[0] = _mm512_sub_epi8(x[0], _mm512_set1_epi8(kMeanOf8));
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) bytes[i] = x[i];
}

// The largest |w| that scale and centre allow.
inline __m512 Bound(const RoundedGroup4& group) {
  return _mm512_fmadd_ps(_mm512_set1_ps(kCentreCode), group.scale, _mm512_abs_ps(group.centre));
}

// Of whole numbers in the halves between `low` and `high`.
inline __m512i LargestMagnitude(__m512i low, __m512i high) {
  const __m512i halves = _mm512_max_epi16(high, _mm512_sub_epi16(_mm512_setzero_si512(), low));
  return _mm512_max_epi32(_mm512_and_si512(halves, _mm512_set1_epi32(0xffff)), _mm512_srli_epi32(halves, 16));
}

// What brings sums of at most `largest` to 127, as a multiplier of the product (a * b + 2^14) >> 15.
inline __m512i CodeMultiplier(__m512i largest) {
  const __m512i quotient = _mm512_cvttps_epi32(_mm512_div_ps(_mm512_set1_ps(127 * 32768), _mm512_cvtepi32_ps(largest)));
  return _mm512_mask_mov_epi32(quotient, _mm512_cmplt_epi32_mask(largest, _mm512_set1_epi32(128)),
                               _mm512_set1_epi32(32767));
}

// 128 columns of a strip between the two halves.
class SpanRotation {
 public:
  __attribute__((noinline)) void Rotate(const RoundedStrip4& packed, int64_t span) {
    const auto group = [&](int g) { return packed.group(span * kSpanGroups / 2 + g / 2, g % 2); };
    const RoundedGroup4 groups[kSpanGroups] = {group(0), group(1), group(2), group(3)};
    const __m512 bound = _mm512_add_ps(_mm512_add_ps(Bound(groups[0]), Bound(groups[1])),
                                       _mm512_add_ps(Bound(groups[2]), Bound(groups[3])));
    const __mmask16 plain = _mm512_cmp_ps_mask(bound, _mm512_set1_ps(kSmallestMagnitude), _CMP_GE_OQ);
    const __m512 units = _mm512_maskz_div_ps(plain, _mm512_set1_ps(kUnitsOfBound), bound);
    __m512i multiplier[kSpanGroups], mean[kSpanGroups], bytes[kSpanGroups][8];
#pragma GCC unroll 4
    for (int g = 0; g < kSpanGroups; ++g) {
      multiplier[g] = BothHalves(_mm512_mul_ps(_mm512_mul_ps(groups[g].scale, units), _mm512_set1_ps(kMultiplierOne)));
      mean[g] = BothHalves(_mm512_mul_ps(_mm512_mul_ps(groups[g].centre, units), _mm512_set1_ps(16)));
    }
#pragma GCC unroll 4
    for (int g = 0; g < kSpanGroups; ++g) RotateCodes(groups[g].words, bytes[g]);
    __m512i high[2] = {}, low[2] = {};  // apart, so that nothing waits for one chain
#pragma GCC unroll 4
    for (int chunk = 0; chunk < 4; ++chunk) {
      __m512i x[kSpanGroups][4];  // sums of 16 columns in units
#pragma GCC unroll 4
      for (int g = 0; g < kSpanGroups; ++g) {
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
          const __m512i pair = bytes[g][2 * chunk + i];
          const __m512i lower = _mm512_slli_epi16(pair, kCodeShift);
          const __m512i upper = _mm512_andnot_si512(_mm512_set1_epi16((1 << kCodeShift) - 1), pair);
          x[g][i] = _mm512_mulhrs_epi16(_mm512_add_epi16(lower, upper), multiplier[g]);
          x[g][i + 2] = _mm512_mulhrs_epi16(_mm512_sub_epi16(lower, upper), multiplier[g]);
        }
        if (chunk == 0) x[g][0] = _mm512_add_epi16(x[g][0], mean[g]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m512i a = _mm512_add_epi16(x[0][i], x[1][i]), b = _mm512_sub_epi16(x[0][i], x[1][i]);
        const __m512i c = _mm512_add_epi16(x[2][i], x[3][i]), d = _mm512_sub_epi16(x[2][i], x[3][i]);
        const __m512i sums[kSpanGroups] = {_mm512_add_epi16(a, c), _mm512_add_epi16(b, d), _mm512_sub_epi16(a, c),
                                           _mm512_sub_epi16(b, d)};
#pragma GCC unroll 4
        for (int g = 0; g < kSpanGroups; ++g) {
          sum_[g][4 * chunk + i] = sums[g];
          high[g % 2] = _mm512_max_epi16(high[g % 2], sums[g]);
          low[g % 2] = _mm512_min_epi16(low[g % 2], sums[g]);
        }
      }
    }
    to_code_ = CodeMultiplier(LargestMagnitude(_mm512_min_epi16(low[0], low[1]), _mm512_max_epi16(high[0], high[1])));
    scale_ = _mm512_div_ps(_mm512_mul_ps(bound, _mm512_set1_ps(kScaleOfBound)), _mm512_cvtepi32_ps(to_code_));
  }

  __attribute__((noinline)) void Round(RotatedStrip& strip) const {
    const __m512i multiplier = BothHalves(to_code_);
    __m512i code_sum[kSpanGroups] = {};
#pragma GCC unroll 2
    for (int i = 0; i < 8; ++i) {
#pragma GCC unroll 4
      for (int g = 0; g < kSpanGroups; ++g) {
        const __m512i even = _mm512_mulhrs_epi16(sum_[g][2 * i], multiplier);
        const __m512i odd = _mm512_mulhrs_epi16(sum_[g][2 * i + 1], multiplier);
        const __m512i code = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaa, even, _mm512_slli_epi16(odd, 8));
        code_sum[g] = _mm512_dpbusd_epi32(code_sum[g], _mm512_set1_epi8(1), code);
        _mm512_store_si512(strip.code[g * 8 + i], code);
      }
    }
    const __m512i sum =
        _mm512_add_epi32(_mm512_add_epi32(code_sum[0], code_sum[1]), _mm512_add_epi32(code_sum[2], code_sum[3]));
    _mm512_store_ps(strip.scale, scale_);
    _mm512_store_si512(strip.zero, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sum, 7)));
  }

 private:
  __m512i sum_[kSpanGroups][16];  // of 64 columns, in units
  __m512i to_code_;
  __m512 scale_;
};

}  // namespace ryzen_npu_gemma::kernels::avx512
