#include <cmath>

#include "kernels/rms_norm/rms_norm.h"

namespace ryzen_npu_gemma::kernels {

void RmsNormReference(const float* x, const float* weight, float eps, int64_t rows, int64_t D, float* y) {
  for (int64_t row = 0; row < rows; ++row, x += D, y += D) {
    float sum_of_squares = 0;
    for (int64_t i = 0; i < D; ++i) sum_of_squares += x[i] * x[i];
    const float scale = 1.0f / std::sqrt(sum_of_squares / static_cast<float>(D) + eps);
    for (int64_t i = 0; i < D; ++i) y[i] = x[i] * scale * weight[i];
  }
}

}  // namespace ryzen_npu_gemma::kernels
