// A head's row of q or k before attention: RMSNorm over the 256 of the head, RoPE (half-split pairs i, i + 128), then,
// for q, the attention's scale and the log2(e) of its exp2, so that the attention kernels see scores in powers of two
// and take no scale.
//   n = x * rsqrt(mean(x^2) + eps) * (1 + w) * f      f = log2(e) / sqrt(query_scalar) for q, 1 for k (query_scalar =
//   0) y[i] = n[i] cos[i] - n[i + 128] sin[i]      y[i + 128] = n[i + 128] cos[i] + n[i] sin[i]
//
// cos and sin are fp32, [cos 128][sin 128] for a position: in bf16 they would add a rounding as large as the result's
// own, and a kilobyte a position is nothing beside the weights.
//
//   decode   one head: x [256] fp32, and offsets in elements into weight, table and y
//   prefill  x, y [positions][heads][256] bf16, table [positions][256]
#include "kernels/rms_norm/aie2p_rms.h"

namespace {

constexpr int32_t kHeadDim = 256;
constexpr int32_t kHalf = kHeadDim / 2;
constexpr unsigned kLanes = aie2p::kLanes;
constexpr float kLog2E = 1.44269504f;

inline float Factor(int32_t query_scalar) {
  return query_scalar > 0 ? kLog2E * aie::invsqrt(static_cast<float>(query_scalar)) : 1.0f;
}

template <class T>
inline void NormRope(const T* __restrict x, const bfloat16* __restrict weight, const float* __restrict table,
                     float factor, bfloat16* __restrict y) {
  const aie2p::Gain gain(aie2p::InverseRms(x, kHeadDim) * factor);
  for (int32_t i = 0; i < kHalf; i += kLanes) {
    const auto cos = aie2p::LoadOperand<kLanes>(table + i);
    const auto sin = aie2p::LoadOperand<kLanes>(table + kHalf + i);
    const auto a = aie2p::Split(aie2p::Multiply(aie2p::LoadOperand<kLanes>(x + i), gain(weight + i)));
    const auto b = aie2p::Split(aie2p::Multiply(aie2p::LoadOperand<kLanes>(x + kHalf + i), gain(weight + kHalf + i)));
    aie::store_v(y + i, aie2p::MultiplySubtract(aie2p::Multiply(a, cos), b, sin).template to_vector<bfloat16>());
    aie::store_v(y + kHalf + i, aie2p::MultiplyAdd(aie2p::Multiply(b, cos), a, sin).template to_vector<bfloat16>());
  }
}

}  // namespace

AIE2P_KERNEL void qk_norm_rope_f32_aie2p(const float* __restrict x, const bfloat16* __restrict weight,
                                         const float* __restrict table, bfloat16* __restrict y, int32_t query_scalar,
                                         int32_t weight_offset, int32_t table_offset, int32_t y_offset) {
  aie2p::SetUpRounding();
  NormRope(x, weight + weight_offset, table + table_offset, Factor(query_scalar), y + y_offset);
}

AIE2P_KERNEL void qk_norm_rope_bf16_aie2p(const bfloat16* __restrict x, const bfloat16* __restrict weight,
                                          const float* __restrict table, bfloat16* __restrict y, int32_t positions,
                                          int32_t heads, int32_t query_scalar) {
  aie2p::SetUpRounding();
  const float factor = Factor(query_scalar);
  for (int32_t position = 0; position < positions; ++position, table += kHeadDim)
    for (int32_t head = 0; head < heads; ++head, x += kHeadDim, y += kHeadDim) NormRope(x, weight, table, factor, y);
}
