#include <cmath>

#include "kernels/qk_norm_rope/qk_norm_rope.h"

namespace ryzen_npu_gemma::kernels {

void RopeInvFreq(float theta, float factor, int64_t head_dim, float* inv_freq) {
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    inv_freq[i] = static_cast<float>(1.0 / (factor * std::pow(static_cast<double>(theta), exponent)));
  }
}

void RopeAngles(const float* inv_freq, int64_t head_dim, int64_t position, float* cos, float* sin) {
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const float angle = static_cast<float>(position) * inv_freq[i];
    cos[i] = std::cos(angle);
    sin[i] = std::sin(angle);
  }
}

}  // namespace ryzen_npu_gemma::kernels
