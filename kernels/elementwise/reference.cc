#include "kernels/elementwise/elementwise.h"

namespace ryzen_npu_gemma::kernels {

void ElementwiseReference(bool multiply, const float* a, const float* b, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = multiply ? a[i] * b[i] : a[i] + b[i];
}

}  // namespace ryzen_npu_gemma::kernels
