// Some rows at a time: the sum of a row, its root and the inverse of that are a chain of instructions that wait for
// each other, and other rows' fill the time. The last elements are a masked step.
#include <immintrin.h>

#include <algorithm>
#include <cmath>

#include "kernels/rms_norm/rms_norm.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int64_t kRowsAtOnce = 8;

__mmask16 Lanes(int64_t n) { return static_cast<__mmask16>((1u << std::min<int64_t>(n, 16)) - 1); }

float SumOfSquares(const float* x, int64_t n) {
  __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
    for (int64_t j = 0; j < 4; ++j) {
      const __m512 v = _mm512_loadu_ps(x + i + j * 16);
      sum[j] = _mm512_fmadd_ps(v, v, sum[j]);
    }
  }
  for (; i < n; i += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(Lanes(n - i), x + i);
    sum[0] = _mm512_fmadd_ps(v, v, sum[0]);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

void Scale(const float* x, float scale, const float* weight, int64_t n, float* y) {
  const __m512 scale16 = _mm512_set1_ps(scale);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512 normed = _mm512_mul_ps(_mm512_loadu_ps(x + i), scale16);
    _mm512_storeu_ps(y + i, _mm512_mul_ps(normed, _mm512_loadu_ps(weight + i)));
  }
  const __mmask16 rest = Lanes(n - i);
  const __m512 normed = _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, x + i), scale16);
  _mm512_mask_storeu_ps(y + i, rest, _mm512_mul_ps(normed, _mm512_maskz_loadu_ps(rest, weight + i)));
}

}  // namespace

void RmsNormAvx512(const float* x, const float* weight, float eps, int64_t rows, int64_t D, float* y) {
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    const int64_t end = std::min(rows, first + kRowsAtOnce);
    float scale[kRowsAtOnce];
    for (int64_t row = first; row < end; ++row)
      scale[row - first] = 1.0f / std::sqrt(SumOfSquares(x + row * D, D) / static_cast<float>(D) + eps);
    for (int64_t row = first; row < end; ++row) Scale(x + row * D, scale[row - first], weight, D, y + row * D);
  }
}

}  // namespace ryzen_npu_gemma::kernels
