// y = gelu_tanh(gate) * up (GeGLU), gelu_tanh(x) = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), fp32.
//   gate, up, y  [n] fp32; y may be gate or up
#pragma once

#include <cstdint>
#include <type_traits>

namespace ryzen_npu_gemma::kernels {

using GeluMulFn = void (*)(const float* gate, const float* up, int64_t n, float* y);
GeluMulFn SelectGeluMul();

#define KERNEL(required, name) std::remove_pointer_t<GeluMulFn> name;
#include "kernels/gelu_mul/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
