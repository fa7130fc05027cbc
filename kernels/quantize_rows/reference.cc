#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/quantize_rows/quantize_rows.h"

namespace ryzen_npu_gemma::kernels {

namespace {

QuantizedGroup Quantize(const float* x) {
  QuantizedGroup q = {};
  float max = 0;
  for (int64_t c = 0; c < 32; ++c) {
    if (!std::isfinite(x[c])) {
      q.scale = std::numeric_limits<float>::quiet_NaN();
      return q;
    }
    max = std::max(max, std::abs(x[c]));
  }
  if (max < kSmallestMagnitude) return q;
  q.scale = max / 127;
  const float inverse = 127 / max;
  for (int64_t c = 0; c < 32; ++c) {
    const float code = std::nearbyint(x[c] * inverse);
    q.code[CodePosition(c)] = static_cast<int8_t>(code);
    q.zero -= kCodeZero * static_cast<int32_t>(code);
  }
  return q;
}

}  // namespace

void QuantizeRowsReference(const float* x, int64_t rows, int64_t ldx, int64_t K, QuantizedGroup* q) {
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t k = 0; k < K; k += 32) *q++ = Quantize(x + m * ldx + k);
  }
}

}  // namespace ryzen_npu_gemma::kernels
