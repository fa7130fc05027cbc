// y = x * rsqrt(mean(x^2) + eps) * (1 + w), the fp32 residual stream in, a bf16 activation out.
//   x [rows][n] fp32      w [n] bf16, at weight + weight_offset      y [rows][n] bf16       n a multiple of 64
#include "kernels/rms_norm/aie2p_rms.h"

AIE2P_KERNEL void rms_norm_aie2p(const float* __restrict x, const bfloat16* __restrict weight, bfloat16* __restrict y,
                                 int32_t rows, int32_t n, int32_t weight_offset) {
  aie2p::SetUpRounding();
  constexpr unsigned kLanes = aie2p::kLanes;
  for (int32_t row = 0; row < rows; ++row, x += n, y += n) {
    const aie2p::Gain gain(aie2p::InverseRms(x, n));
    for (int32_t i = 0; i < n; i += kLanes) {
      const auto product = aie2p::Multiply(aie2p::LoadOperand<kLanes>(x + i), gain(weight + weight_offset + i));
      aie::store_v(y + i, product.template to_vector<bfloat16>());
    }
  }
}
