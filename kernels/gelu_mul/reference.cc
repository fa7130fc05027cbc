#include <cmath>

#include "kernels/gelu_mul/gelu_mul.h"

namespace ryzen_npu_gemma::kernels {

void GeluMulReference(const float* gate, const float* up, int64_t n, float* y) {
  constexpr float kSqrt2OverPi = 0.797884560802865f;
  for (int64_t i = 0; i < n; ++i) {
    const float x = gate[i];
    const float u = kSqrt2OverPi * (x + 0.044715f * x * x * x);
    y[i] = 0.5f * x * (1.0f + std::tanh(u)) * up[i];
  }
}

}  // namespace ryzen_npu_gemma::kernels
