// y = gelu_tanh(gate) * up (GeGLU), gelu_tanh(x) = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), fp32.
//   gate, up, y  [n] fp32; y may be gate or up
#pragma once

#include <cstdint>

namespace ryzen_npu_gemma::kernels {

using GeluMulFn = void (*)(const float* gate, const float* up, int64_t n, float* y);
GeluMulFn SelectGeluMul();

}  // namespace ryzen_npu_gemma::kernels
