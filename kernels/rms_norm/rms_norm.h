// y = x * rsqrt(mean(x^2) + eps) * weight over the last dimension, fp32 throughout. `weight` already holds 1 + w.
//   x, y  [rows, D] fp32, rows contiguous; y may be x
#pragma once

#include <cstdint>
#include <type_traits>

namespace ryzen_npu_gemma::kernels {

using RmsNormFn = void (*)(const float* x, const float* weight, float eps, int64_t rows, int64_t D, float* y);
RmsNormFn SelectRmsNorm();

#define KERNEL(required, name) std::remove_pointer_t<RmsNormFn> name;
#include "kernels/rms_norm/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
