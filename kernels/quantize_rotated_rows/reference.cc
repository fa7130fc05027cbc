#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/quantize_rotated_rows/quantize_rotated_rows.h"
#include "kernels/quantize_rows/quantize_rows.h"

namespace ryzen_npu_gemma::kernels {

void QuantizeRotatedRowsReference(const float* x, int64_t rows, int64_t ldx, int64_t K, RotatedSpan* q, int64_t ldq) {
  for (int64_t m = 0; m < rows; ++m, x += ldx) {
    for (int64_t k = 0; k < K; k += kSpanColumns) {
      RotatedSpan& span = q[k / kSpanColumns * ldq + m];
      float r[kSpanColumns];
      std::copy_n(x + k, kSpanColumns, r);
      for (const int64_t step : {1, 2, 8, 16, 32, 64}) {
        for (int64_t c = 0; c < kSpanColumns; ++c) {
          if (c & step) continue;
          const float a = r[c], b = r[c + step];
          r[c] = a + b;
          r[c + step] = a - b;
        }
      }
      float max = 0;
      bool finite = true;
      for (const float value : r) {
        finite &= std::isfinite(value);
        max = std::max(max, std::fabs(value));
      }
      const float inverse = finite && max >= kSmallestMagnitude ? 127 / max : 0;
      span.scale = !finite ? std::numeric_limits<float>::quiet_NaN() : inverse == 0 ? 0 : max / 127;
      for (int64_t c = 0; c < kSpanColumns; ++c) {
        const auto code = finite ? static_cast<int>(std::nearbyint(r[c] * inverse)) : 0;
        span.code[RotatedPosition(c)] = static_cast<uint8_t>(code + kRotatedZero);
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
