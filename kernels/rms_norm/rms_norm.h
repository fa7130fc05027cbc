// y = x * rsqrt(mean(x^2) + eps) * weight over the last dimension, fp32 throughout. `weight` already holds 1 + w.
//   x, y  [rows, D] fp32, rows contiguous; y may be x
#pragma once

#include <cstdint>

namespace ryzen_npu_gemma::kernels {

using RmsNormFn = void (*)(const float* x, const float* weight, float eps, int64_t rows, int64_t D, float* y);
RmsNormFn SelectRmsNorm();

}  // namespace ryzen_npu_gemma::kernels
