#include <cmath>

#include "kernels/qk_norm_rope/qk_norm_rope.h"

namespace ryzen_npu_gemma::kernels {

void QkNormRopeReference(const float* x, const float* weight, float eps, const float* cos, const float* sin,
                         float scale, int64_t heads, int64_t head_dim, float* y) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < heads; ++head, x += head_dim, y += head_dim) {
    float sum_of_squares = 0;
    for (int64_t i = 0; i < head_dim; ++i) sum_of_squares += x[i] * x[i];
    const float norm = 1.0f / std::sqrt(sum_of_squares / static_cast<float>(head_dim) + eps);
    for (int64_t i = 0; i < half; ++i) {
      const float low = x[i] * norm * weight[i];
      const float high = x[i + half] * norm * weight[i + half];
      y[i] = (low * cos[i] - high * sin[i]) * scale;
      y[i + half] = (high * cos[i] + low * sin[i]) * scale;
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
