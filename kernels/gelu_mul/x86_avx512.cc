// As x86_avx2.cc, with a power of 2 that takes fewer instructions than Exp does and serves this sum alone: 2^r is good
// to 1.1e-7. The last elements are a masked step.
#include <immintrin.h>

#include "kernels/gelu_mul/gelu_mul.h"

namespace ryzen_npu_gemma::kernels {

namespace {

// 1 + 2^t: 1 from t = -127 down, infinity from 127.5 up.  2^t = 2^n 2^r, |r| <= 1/2, 2^r by a minimax polynomial
__m512 OneAndPowerOf2(__m512 t) {
  const __m512 one = _mm512_set1_ps(1.0f);
  // Added, it leaves n + 127 in the lowest bits.
  const __m512 integer = _mm512_set1_ps(0x1.8p23f + 127);
  // min and max return their second operand for NaN.
  t = _mm512_max_ps(_mm512_set1_ps(-127.0f), _mm512_min_ps(_mm512_set1_ps(128.0f), t));
  const __m512 n = _mm512_add_ps(t, integer);
  const __m512 r = _mm512_sub_ps(t, _mm512_sub_ps(n, integer));
  __m512 p = _mm512_set1_ps(0x1.5bba14p-10f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.3cea88p-7f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.c6b752p-5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ebf9bcp-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62e42ap-1f));
  p = _mm512_fmadd_ps(p, r, one);
  return _mm512_fmadd_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(n), 23)), one);
}

__m512 GeluMul(__m512 x, __m512 up) {
  constexpr float kFactor = static_cast<float>(-2 * 0.7978845608028654 * 1.4426950408889634);  // sqrt(2/pi), log2(e)
  const __m512 factor =
      _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f * kFactor), _mm512_set1_ps(kFactor));
  return _mm512_mul_ps(_mm512_div_ps(x, OneAndPowerOf2(_mm512_mul_ps(x, factor))), up);
}

}  // namespace

void GeluMulAvx512(const float* gate, const float* up, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(y + i, GeluMul(_mm512_loadu_ps(gate + i), _mm512_loadu_ps(up + i)));
  const auto rest = static_cast<__mmask16>((1u << (n - i)) - 1);
  const __m512 last = GeluMul(_mm512_maskz_loadu_ps(rest, gate + i), _mm512_maskz_loadu_ps(rest, up + i));
  _mm512_mask_storeu_ps(y + i, rest, last);
}

}  // namespace ryzen_npu_gemma::kernels
