// Four groups at a time, so that one instruction reduces what they need one of each: the largest magnitude (compared as
// integers, as in x86_avx2.cc), the scale, the sum of the codes. What is left, and four groups of which one is not
// plain, go to x86_avx2.cc.
#include <limits>

#include "kernels/quantize_rows/quantize_rows.h"
#include "kernels/x86_avx512_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int64_t kGroups = 4;

// The largest |x| of each group, in order.
__m128 Largest(const __m512 (&x)[kGroups][2]) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i m[kGroups];
  for (int64_t g = 0; g < kGroups; ++g) {
    m[g] = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(x[g][0]), magnitude),
                            _mm512_and_si512(_mm512_castps_si512(x[g][1]), magnitude));
  }
  return _mm_castsi128_ps(avx512::Largest4(m[0], m[1], m[2], m[3]));
}

// The 32 codes of a, then of b, each as QuantizedGroup holds them.
__m512i Codes(const __m512 (&a)[2], __m512 inverse_a, const __m512 (&b)[2], __m512 inverse_b) {
  const auto round = [](const __m512(&x)[2], __m512 inverse) {
    return _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x[0], inverse)),
                              _mm512_cvtps_epi32(_mm512_mul_ps(x[1], inverse)));
  };
  // Packing leaves columns 4i..4i+3 of each quarter apart; then even columns go before odd ones.
  const __m512i quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i even_first =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
  const __m512i packed = _mm512_packs_epi16(round(a, inverse_a), round(b, inverse_b));
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, packed), even_first);
}

// QuantizedGroup::zero of the groups 0, 1 and 2, 3, in order.
__m128i Zeros(__m512i codes01, __m512i codes23) {
  const __m512i zero = _mm512_set1_epi8(kCodeZero);
  const __m512i s01 = _mm512_dpbusd_epi32(_mm512_setzero_si512(), zero, codes01);
  const __m512i s23 = _mm512_dpbusd_epi32(_mm512_setzero_si512(), zero, codes23);
  const __m512i halves = _mm512_add_epi32(_mm512_unpacklo_epi32(s01, s23), _mm512_unpackhi_epi32(s01, s23));
  const __m512i quarters = _mm512_add_epi32(halves, _mm512_shuffle_epi32(halves, _MM_PERM_BADC));
  const __m512i whole = _mm512_add_epi32(quarters, _mm512_shuffle_i32x4(quarters, quarters, 0xb1));
  const __m128i sums = _mm_unpacklo_epi32(_mm512_castsi512_si128(whole), _mm512_extracti32x4_epi32(whole, 2));
  return _mm_sub_epi32(_mm_setzero_si128(), sums);
}

void Quantize(const float* x, QuantizedGroup* q) {
  __m512 x16[kGroups][2];
  for (int64_t g = 0; g < kGroups; ++g) {
    x16[g][0] = _mm512_loadu_ps(x + g * 32);
    x16[g][1] = _mm512_loadu_ps(x + g * 32 + 16);
  }
  const __m128 max = Largest(x16);
  const __mmask8 plain = _mm_cmp_ps_mask(max, _mm_set1_ps(kSmallestMagnitude), _CMP_GE_OQ) &
                         _mm_cmp_ps_mask(max, _mm_set1_ps(std::numeric_limits<float>::max()), _CMP_LE_OQ);
  if (plain != 0x0f) {
    QuantizeRowsAvx2(x, 1, kGroups * 32, kGroups * 32, q);
    return;
  }
  const __m512 inverse = _mm512_castps128_ps512(_mm_div_ps(_mm_set1_ps(127), max));
  const auto of_group = [&](int g) { return _mm512_permutexvar_ps(_mm512_set1_epi32(g), inverse); };
  const __m512i codes01 = Codes(x16[0], of_group(0), x16[1], of_group(1));
  const __m512i codes23 = Codes(x16[2], of_group(2), x16[3], of_group(3));
  alignas(16) float scale[kGroups];
  alignas(16) int32_t zero[kGroups];
  _mm_store_ps(scale, _mm_div_ps(max, _mm_set1_ps(127)));
  _mm_store_si128(reinterpret_cast<__m128i*>(zero), Zeros(codes01, codes23));
  const __m256i codes[kGroups] = {_mm512_castsi512_si256(codes01), _mm512_extracti64x4_epi64(codes01, 1),
                                  _mm512_castsi512_si256(codes23), _mm512_extracti64x4_epi64(codes23, 1)};
  for (int64_t g = 0; g < kGroups; ++g) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q[g].code), codes[g]);
    q[g].scale = scale[g];
    q[g].zero = zero[g];
  }
}

}  // namespace

void QuantizeRowsAvx512(const float* x, int64_t rows, int64_t ldx, int64_t K, QuantizedGroup* q) {
  for (int64_t m = 0; m < rows; ++m, x += ldx) {
    int64_t k = 0;
    for (; k + kGroups * 32 <= K; k += kGroups * 32, q += kGroups) Quantize(x + k, q);
    QuantizeRowsAvx2(x + k, 1, K - k, K - k, q);
    q += (K - k) / 32;
  }
}

}  // namespace ryzen_npu_gemma::kernels
