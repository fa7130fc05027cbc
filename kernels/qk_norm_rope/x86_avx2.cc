#include <cmath>

#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels {

void QkNormRopeAvx2(const float* x, const float* weight, float eps, const float* cos, const float* sin, float scale,
                    int64_t heads, int64_t head_dim, float* y) {
  const int64_t half = head_dim / 2;
  if (half % 8 != 0) {
    QkNormRopeReference(x, weight, eps, cos, sin, scale, heads, head_dim, y);
    return;
  }
  const __m256 scale8 = _mm256_set1_ps(scale);
  for (int64_t head = 0; head < heads; ++head, x += head_dim, y += head_dim) {
    __m256 sum_low = _mm256_setzero_ps();
    __m256 sum_high = _mm256_setzero_ps();
    for (int64_t i = 0; i < half; i += 8) {
      const __m256 low = _mm256_loadu_ps(x + i);
      const __m256 high = _mm256_loadu_ps(x + i + half);
      sum_low = _mm256_fmadd_ps(low, low, sum_low);
      sum_high = _mm256_fmadd_ps(high, high, sum_high);
    }
    const float sum_of_squares = avx2::Sum(_mm256_add_ps(sum_low, sum_high));
    const __m256 norm = _mm256_set1_ps(1.0f / std::sqrt(sum_of_squares / static_cast<float>(head_dim) + eps));
    for (int64_t i = 0; i < half; i += 8) {
      const __m256 low = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), norm), _mm256_loadu_ps(weight + i));
      const __m256 high =
          _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i + half), norm), _mm256_loadu_ps(weight + i + half));
      const __m256 cos8 = _mm256_loadu_ps(cos + i);
      const __m256 sin8 = _mm256_loadu_ps(sin + i);
      const __m256 rotated_low = _mm256_fmsub_ps(low, cos8, _mm256_mul_ps(high, sin8));
      const __m256 rotated_high = _mm256_fmadd_ps(high, cos8, _mm256_mul_ps(low, sin8));
      _mm256_storeu_ps(y + i, _mm256_mul_ps(rotated_low, scale8));
      _mm256_storeu_ps(y + i + half, _mm256_mul_ps(rotated_high, scale8));
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
