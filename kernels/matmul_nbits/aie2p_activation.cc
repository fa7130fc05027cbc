// Prepares activations for matmul_nbits_aie2p (layout in aie2p_activation.h). Once a projection, not once a weight
// block.
#include "kernels/matmul_nbits/aie2p_activation.h"

#include <bit>

namespace {

using matmul_nbits::kGroup;
using matmul_nbits::kRecord;

bfloat16 FromBits(uint16_t bits) { return std::bit_cast<bfloat16>(bits); }

void PrepareGroup(const bfloat16* src, bfloat16* x, bfloat16* record) {
  const aie::vector<bfloat16, kGroup> values = aie::load_v<kGroup>(src);
  const uint16_t largest = std::bit_cast<uint16_t>(bfloat16(aie::reduce_max(aie::abs(values)))) & 0x7f80;  // 2^E
  const bool finite = largest != 0x7f80;
  // A group of zeros counts as E = 0. For E = 127 the divisor is 2^126: 2^-127 is no normal number.
  uint16_t exponent = largest == 0 ? 0x3f80 : largest;
  if (exponent > 0x7e80) exponent = 0x7e80;
  const bfloat16 reciprocal = FromBits(static_cast<uint16_t>(0x7f00 - exponent));
  aie::store_v(x, aie::mul(values, reciprocal).to_vector<bfloat16>());

  const float total = aie::reduce_add(aie::accum<accfloat, kGroup>(values).to_vector<float>());
  aie::accum<accfloat, 16> sum(aie::broadcast<float, 16>(total));
  const aie::vector<bfloat16, 16> high = sum.to_vector<bfloat16>();
  sum = aie::sub(sum, high);
  const aie::vector<bfloat16, 16> middle = sum.to_vector<bfloat16>();
  sum = aie::sub(sum, middle);
  const aie::vector<bfloat16, 16> low = sum.to_vector<bfloat16>();
  record[0] = FromBits(finite ? exponent : 0x7fc0);
  record[1] = high.get(0);
  record[2] = middle.get(0);
  record[3] = low.get(0);
}

}  // namespace

AIE2P_KERNEL void matmul_nbits_activation_aie2p(const bfloat16* __restrict src, bfloat16* __restrict x,
                                                bfloat16* __restrict x_groups, int32_t src_offset, int32_t n,
                                                int32_t x_group0) {
  event0();
  aie2p::SetUpRounding();
  AIE_LOOP_MIN_ITERATION_COUNT(1)
  for (int32_t group = 0; group < n / kGroup; ++group)
    PrepareGroup(src + src_offset + kGroup * group, x + kGroup * (x_group0 + group),
                 x_groups + kRecord * (x_group0 + group));
  event1();
}
