// gelu_tanh(x) = x / (1 + e^(-2u)): the same function, and no cancellation in 1 + tanh(u) where u is negative.
#include "kernels/gelu_mul/gelu_mul.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

__m256 Gelu(__m256 x) {
  const __m256 minus_2_sqrt_2_over_pi = _mm256_set1_ps(-2 * 0.797884560802865f);
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 factor = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f), one);
  const __m256 minus_2u = _mm256_mul_ps(_mm256_mul_ps(x, factor), minus_2_sqrt_2_over_pi);
  return _mm256_div_ps(x, _mm256_add_ps(one, avx2::Exp(minus_2u)));
}

}  // namespace

void GeluMulAvx2(const float* gate, const float* up, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(y + i, _mm256_mul_ps(Gelu(_mm256_loadu_ps(gate + i)), _mm256_loadu_ps(up + i)));
  }
  for (; i < n; ++i) y[i] = _mm256_cvtss_f32(Gelu(_mm256_set1_ps(gate[i]))) * up[i];
}

}  // namespace ryzen_npu_gemma::kernels
