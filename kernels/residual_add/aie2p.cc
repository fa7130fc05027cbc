// h += delta * rsqrt(mean(delta^2) + eps) * (1 + w): what a sub-layer adds to the residual stream. Gemma3 normalises
// every addend (post_attention_layernorm, post_feedforward_layernorm), so the norm is part of the addition, and what is
// added never exists in bf16.
//
// h is fp32. On Gemma3-270M (620 tokens of text) |h| reaches 1e5 beside medians of 1 to 200, and h in bf16 alone moves
// the last hidden state by 1.0e-2, more than every other activation in bf16 together (0.9e-2).
//
//   delta [rows][n] fp32 (sums of the decode projections) or bf16 (prefill)      h [rows][n] fp32      n a multiple of
//   64 w [n] bf16, at weight + weight_offset
#include "kernels/rms_norm/aie2p_rms.h"

namespace {

template <class T>
inline void ResidualAdd(const T* __restrict delta, const bfloat16* __restrict weight, float* __restrict h, int32_t rows,
                        int32_t n) {
  constexpr unsigned kLanes = aie2p::kLanes;
  for (int32_t row = 0; row < rows; ++row, delta += n, h += n) {
    const aie2p::Gain gain(aie2p::InverseRms(delta, n));
    for (int32_t i = 0; i < n; i += kLanes) {
      const aie2p::Fp32<kLanes> before(aie::load_v<kLanes>(h + i));
      const auto added = aie2p::Multiply(aie2p::LoadOperand<kLanes>(delta + i), gain(weight + i));
      aie::store_v(h + i, aie::add(before, added).template to_vector<float>());
    }
  }
}

}  // namespace

AIE2P_KERNEL void residual_add_f32_aie2p(const float* __restrict delta, const bfloat16* __restrict weight,
                                         float* __restrict h, int32_t rows, int32_t n, int32_t weight_offset) {
  aie2p::SetUpRounding();
  ResidualAdd(delta, weight + weight_offset, h, rows, n);
}

AIE2P_KERNEL void residual_add_bf16_aie2p(const bfloat16* __restrict delta, const bfloat16* __restrict weight,
                                          float* __restrict h, int32_t rows, int32_t n, int32_t weight_offset) {
  aie2p::SetUpRounding();
  ResidualAdd(delta, weight + weight_offset, h, rows, n);
}
