// AVX-512 takes 1.6 cycles for 16 elements out of L1 where this takes 2.1, out of L2 and L3 no fewer (Zen 5).
#include <immintrin.h>

#include "kernels/elementwise/elementwise.h"

namespace ryzen_npu_gemma::kernels {

void ElementwiseAvx2(bool multiply, const float* a, const float* b, int64_t n, float* y) {
  int64_t i = 0;
  if (multiply) {
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
  } else {
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
  }
  ElementwiseReference(multiply, a + i, b + i, n - i, y + i);
}

}  // namespace ryzen_npu_gemma::kernels
