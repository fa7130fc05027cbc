#include <cmath>

#include "kernels/rms_norm/rms_norm.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

float SumOfSquares(const float* x, int64_t n) {
  __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    for (int64_t j = 0; j < 4; ++j) {
      const __m256 v = _mm256_loadu_ps(x + i + j * 8);
      sum[j] = _mm256_fmadd_ps(v, v, sum[j]);
    }
  }
  float total = avx2::Sum(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
  for (; i < n; ++i) total += x[i] * x[i];
  return total;
}

}  // namespace

void RmsNormAvx2(const float* x, const float* weight, float eps, int64_t rows, int64_t D, float* y) {
  for (int64_t row = 0; row < rows; ++row, x += D, y += D) {
    const float scale = 1.0f / std::sqrt(SumOfSquares(x, D) / static_cast<float>(D) + eps);
    const __m256 scale8 = _mm256_set1_ps(scale);
    int64_t i = 0;
    for (; i + 8 <= D; i += 8) {
      const __m256 normed = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale8);
      _mm256_storeu_ps(y + i, _mm256_mul_ps(normed, _mm256_loadu_ps(weight + i)));
    }
    for (; i < D; ++i) y[i] = x[i] * scale * weight[i];
  }
}

}  // namespace ryzen_npu_gemma::kernels
