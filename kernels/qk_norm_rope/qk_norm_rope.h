// Heads of q or k of one position before attention: RMSNorm over head_dim (weight holds 1 + w), then RoPE (half-split,
// NeoX), then a scale. y[i] = n[i] cos[i] - n[i + D/2] sin[i];  y[i + D/2] = n[i + D/2] cos[i] + n[i] sin[i];  i < D/2.
#pragma once

#include <cstdint>
#include <type_traits>

namespace ryzen_npu_gemma::kernels {

// cos, sin [D/2] of one position: angle_i = position * (1 / (factor * theta^(2i/D))), the product taken in fp32 as
// transformers does. `inv_freq` [D/2] is what RopeInvFreq wrote.
void RopeInvFreq(float theta, float factor, int64_t head_dim, float* inv_freq);
void RopeAngles(const float* inv_freq, int64_t head_dim, int64_t position, float* cos, float* sin);

// x, y [heads, head_dim] fp32; y may be x.
using QkNormRopeFn = void (*)(const float* x, const float* weight, float eps, const float* cos, const float* sin,
                              float scale, int64_t heads, int64_t head_dim, float* y);
QkNormRopeFn SelectQkNormRope();

#define KERNEL(required, name) std::remove_pointer_t<QkNormRopeFn> name;
#include "kernels/qk_norm_rope/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
