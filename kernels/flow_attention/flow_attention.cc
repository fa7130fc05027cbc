#include "kernels/flow_attention/flow_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

constexpr KernelRow<FlowAccumulateFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/flow_attention/kernels.inc"
};
constexpr KernelRow<FlowAccumulateFn> kFastRows[] = {
#include "kernels/flow_attention/fast_kernels.inc"
#undef KERNEL
};

}  // namespace

FlowAccumulateFn SelectFlowAccumulate() {
  static const FlowAccumulateFn fn = FirstSupported(kRows);
  return fn;
}

FlowAccumulateFn SelectFlowAccumulateFast() {
  static const FlowAccumulateFn fn = FirstSupported(kFastRows);
  return fn;
}

void ResetSoftmax(const SoftmaxState& state, int64_t rows, int64_t head_dim) {
  std::fill_n(state.m, rows, kMinusInfinity);
  std::fill_n(state.l, rows, 0.0f);
  std::fill_n(state.y, rows * head_dim, 0.0f);
}

void MergeSoftmax(const SoftmaxState& part, int64_t rows, int64_t head_dim, const SoftmaxState& into) {
  for (int64_t r = 0; r < rows; ++r) {
    if (part.m[r] == kMinusInfinity && part.l[r] == 0) continue;
    const float m = std::max(part.m[r], into.m[r]);
    const float part_factor = std::exp(part.m[r] - m);
    const float into_factor = std::exp(into.m[r] - m);
    into.m[r] = m;
    into.l[r] = into.l[r] * into_factor + part.l[r] * part_factor;
    const float* part_y = part.y + r * head_dim;
    float* into_y = into.y + r * head_dim;
    for (int64_t d = 0; d < head_dim; ++d) into_y[d] = into_y[d] * into_factor + part_y[d] * part_factor;
  }
}

void FinishSoftmax(const SoftmaxState& state, int64_t rows, int64_t head_dim, int64_t group, int64_t position_stride,
                   float* out) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* y = state.y + r * head_dim;
    float* out_row = out + r / group * position_stride + r % group * head_dim;
    const float scale = state.l[r] == 0 ? 0.0f : 1.0f / state.l[r];
    for (int64_t d = 0; d < head_dim; ++d) out_row[d] = y[d] * scale;
  }
}

}  // namespace ryzen_npu_gemma::kernels
