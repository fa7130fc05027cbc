// The sums and roundings of x86_avx2.cc, hence its very bits: a vector holds two of those. The norms of some heads come
// first: each is a chain of sums, a root and a division, and the next one's need not wait for it.
#include <algorithm>
#include <cmath>

#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/x86_avx2_math.h"
#include "kernels/x86_avx512_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

using avx512::Load16;

constexpr int64_t kHeads = 8;

float Norm(const float* x, int64_t head_dim, float eps) {
  const int64_t half = head_dim / 2;
  __m512 sum = _mm512_setzero_ps();  // of the squares of the low half's columns, then of the high half's
  for (int64_t i = 0; i < half; i += 8) {
    const __m512d low = _mm512_castps_pd(_mm512_castps256_ps512(_mm256_loadu_ps(x + i)));
    const __m512 both = _mm512_castpd_ps(_mm512_insertf64x4(low, _mm256_castps_pd(_mm256_loadu_ps(x + i + half)), 1));
    sum = _mm512_fmadd_ps(both, both, sum);
  }
  const __m256 sum_low = _mm512_castps512_ps256(sum);
  const __m256 sum_high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1));
  const float sum_of_squares = avx2::Sum(_mm256_add_ps(sum_low, sum_high));
  return 1.0f / std::sqrt(sum_of_squares / static_cast<float>(head_dim) + eps);
}

void Rotate(const float* x, const float* weight, float norm, const float* cos, const float* sin, float scale,
            int64_t half, float* y) {
  const __m512 norm16 = _mm512_set1_ps(norm), scale16 = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < half; i += 16) {
    const __m512 low = _mm512_mul_ps(_mm512_mul_ps(Load16(x + i), norm16), Load16(weight + i));
    const __m512 high = _mm512_mul_ps(_mm512_mul_ps(Load16(x + i + half), norm16), Load16(weight + i + half));
    const __m512 cos16 = Load16(cos + i), sin16 = Load16(sin + i);
    const __m512 rotated_low = _mm512_fmsub_ps(low, cos16, _mm512_mul_ps(high, sin16));
    const __m512 rotated_high = _mm512_fmadd_ps(high, cos16, _mm512_mul_ps(low, sin16));
    _mm512_storeu_ps(y + i, _mm512_mul_ps(rotated_low, scale16));
    _mm512_storeu_ps(y + i + half, _mm512_mul_ps(rotated_high, scale16));
  }
}

}  // namespace

void QkNormRopeAvx512(const float* x, const float* weight, float eps, const float* cos, const float* sin, float scale,
                      int64_t heads, int64_t head_dim, float* y) {
  const int64_t half = head_dim / 2;
  if (half % 16 != 0) {
    QkNormRopeAvx2(x, weight, eps, cos, sin, scale, heads, head_dim, y);
    return;
  }
  for (; heads > 0; heads -= kHeads, x += kHeads * head_dim, y += kHeads * head_dim) {
    const int64_t count = std::min(heads, kHeads);
    float norm[kHeads];
    for (int64_t h = 0; h < count; ++h) norm[h] = Norm(x + h * head_dim, head_dim, eps);
    for (int64_t h = 0; h < count; ++h)
      Rotate(x + h * head_dim, weight, norm[h], cos, sin, scale, half, y + h * head_dim);
  }
}

}  // namespace ryzen_npu_gemma::kernels
