// The sums and roundings of x86_avx2.cc, hence its very bits: a vector holds two of those.
#include <cmath>

#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/x86_avx2_math.h"
#include "kernels/x86_avx512_math.h"

namespace ryzen_npu_gemma::kernels {

void QkNormRopeAvx512(const float* x, const float* weight, float eps, const float* cos, const float* sin, float scale,
                      int64_t head_dim, float* y) {
  using avx512::Load16;
  const int64_t half = head_dim / 2;
  if (half % 16 != 0) {
    QkNormRopeAvx2(x, weight, eps, cos, sin, scale, head_dim, y);
    return;
  }
  __m512 sum = _mm512_setzero_ps();  // of the squares of the low half's columns, then of the high half's
  for (int64_t i = 0; i < half; i += 8) {
    const __m512d low = _mm512_castps_pd(_mm512_castps256_ps512(_mm256_loadu_ps(x + i)));
    const __m256d high = _mm256_castps_pd(_mm256_loadu_ps(x + i + half));
    const __m512 both = _mm512_castpd_ps(_mm512_insertf64x4(low, high, 1));
    sum = _mm512_fmadd_ps(both, both, sum);
  }
  const __m256 sum_low = _mm512_castps512_ps256(sum);
  const __m256 sum_high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1));
  const float sum_of_squares = avx2::Sum(_mm256_add_ps(sum_low, sum_high));
  const __m512 norm = _mm512_set1_ps(1.0f / std::sqrt(sum_of_squares / static_cast<float>(head_dim) + eps));
  const __m512 scale16 = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < half; i += 16) {
    const __m512 low = _mm512_mul_ps(_mm512_mul_ps(Load16(x + i), norm), Load16(weight + i));
    const __m512 high = _mm512_mul_ps(_mm512_mul_ps(Load16(x + i + half), norm), Load16(weight + i + half));
    const __m512 cos16 = Load16(cos + i), sin16 = Load16(sin + i);
    const __m512 rotated_low = _mm512_fmsub_ps(low, cos16, _mm512_mul_ps(high, sin16));
    const __m512 rotated_high = _mm512_fmadd_ps(high, cos16, _mm512_mul_ps(low, sin16));
    _mm512_storeu_ps(y + i, _mm512_mul_ps(rotated_low, scale16));
    _mm512_storeu_ps(y + i + half, _mm512_mul_ps(rotated_high, scale16));
  }
}

}  // namespace ryzen_npu_gemma::kernels
