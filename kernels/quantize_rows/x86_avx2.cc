// Magnitudes are compared as integers: the bits of |x| grow with |x|, and those of infinity and NaN are the largest.
#include <bit>
#include <limits>

#include "kernels/quantize_rows/quantize_rows.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

int32_t Max(__m256i v) {
  const __m128i s4 = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i s2 = _mm_max_epi32(s4, _mm_unpackhi_epi64(s4, s4));
  return _mm_cvtsi128_si32(_mm_max_epi32(s2, _mm_shuffle_epi32(s2, 1)));
}

int32_t Sum(__m256i v) {
  const __m128i s4 = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i s2 = _mm_add_epi32(s4, _mm_unpackhi_epi64(s4, s4));
  return _mm_cvtsi128_si32(_mm_add_epi32(s2, _mm_shuffle_epi32(s2, 1)));
}

void Quantize(const float* x, QuantizedGroup* q) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256 x8[4];
  __m256i largest = _mm256_setzero_si256();
  for (int i = 0; i < 4; ++i) {
    x8[i] = _mm256_loadu_ps(x + i * 8);
    largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(x8[i]), magnitude));
  }
  const float max = std::bit_cast<float>(Max(largest));
  if (!(max >= kSmallestMagnitude && max <= std::numeric_limits<float>::max())) {
    *q = {{}, max < kSmallestMagnitude ? 0.0f : std::numeric_limits<float>::quiet_NaN(), 0};
    return;
  }
  const __m256 inverse = _mm256_set1_ps(127 / max);
  __m256i code[4];
  for (int i = 0; i < 4; ++i) code[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x8[i], inverse));
  // Packing leaves columns 4i..4i+3 of each quarter apart; then even columns go before odd ones.
  const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(code[0], code[1]), _mm256_packs_epi32(code[2], code[3]));
  const __m256i ordered = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  const __m256i even_first =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q->code), _mm256_shuffle_epi8(ordered, even_first));
  q->scale = max / 127;
  q->zero = -kCodeZero * Sum(_mm256_add_epi32(_mm256_add_epi32(code[0], code[1]), _mm256_add_epi32(code[2], code[3])));
}

}  // namespace

void QuantizeRowsAvx2(const float* x, int64_t rows, int64_t ldx, int64_t K, QuantizedGroup* q) {
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t k = 0; k < K; k += 32) Quantize(x + m * ldx + k, q++);
  }
}

}  // namespace ryzen_npu_gemma::kernels
