// y = a + b or y = a * b, fp32.
//   a, b, y  [n]; y may be a or b
#pragma once

#include <cstdint>
#include <type_traits>

namespace ryzen_npu_gemma::kernels {

using ElementwiseFn = void (*)(bool multiply, const float* a, const float* b, int64_t n, float* y);
ElementwiseFn SelectElementwise();

#define KERNEL(required, name) std::remove_pointer_t<ElementwiseFn> name;
#include "kernels/elementwise/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
