// As x86_avx2.cc; the last elements are a masked step.
#include "kernels/gelu_mul/gelu_mul.h"
#include "kernels/x86_avx512_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

__m512 Gelu(__m512 x) {
  const __m512 minus_2_sqrt_2_over_pi = _mm512_set1_ps(-2 * 0.797884560802865f);
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 factor = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), one);
  const __m512 minus_2u = _mm512_mul_ps(_mm512_mul_ps(x, factor), minus_2_sqrt_2_over_pi);
  return _mm512_div_ps(x, _mm512_add_ps(one, avx512::Exp(minus_2u)));
}

}  // namespace

void GeluMulAvx512(const float* gate, const float* up, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(y + i, _mm512_mul_ps(Gelu(_mm512_loadu_ps(gate + i)), _mm512_loadu_ps(up + i)));
  }
  const auto rest = static_cast<__mmask16>((1u << (n - i)) - 1);
  const __m512 gelu = Gelu(_mm512_maskz_loadu_ps(rest, gate + i));
  _mm512_mask_storeu_ps(y + i, rest, _mm512_mul_ps(gelu, _mm512_maskz_loadu_ps(rest, up + i)));
}

}  // namespace ryzen_npu_gemma::kernels
