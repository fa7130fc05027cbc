// Q4NX units -> bf16 in the blocks that mmul<8, 8, 8> takes as operand B:
//
//   b bf16 [strips][4 * groups][2][8 k][8 n]           n = 16 strip + 8 half + row, k = 8 * block + column
#include "kernels/dequantize_q4nx/aie2p_unit.h"

namespace {

using namespace dequantize_q4nx;

// Eight values, one a row -> [8 k][8 n], each repeated along k.
Block RepeatAlongK(const aie::vector<bfloat16, kRows>& rows, int half) {
  return rows.extract<8>(half).grow_replicate<64>();
}

}  // namespace

AIE2P_KERNEL void dequantize_q4nx_bf16_aie2p(const uint8_t* __restrict units, bfloat16* __restrict b, int32_t strips,
                                             int32_t groups) {
  event0();
  aie2p::SetUpRounding();
  const Constants constants;
  AIE_LOOP_MIN_ITERATION_COUNT(1)
  for (int32_t unit = 0; unit < strips * groups; ++unit, units += kUnitBytes) {
    const aie::vector<bfloat16, kRows> scale = aie::load_v<kRows>(reinterpret_cast<const bfloat16*>(units));
    const aie::vector<bfloat16, kRows> min = aie::load_v<kRows>(reinterpret_cast<const bfloat16*>(units) + kRows);
    const Block top_scales = RepeatAlongK(scale, 0), bottom_scales = RepeatAlongK(scale, 1);
    const aie::accum<accfloat, 64> top = Base(top_scales, RepeatAlongK(min, 0), constants);
    const aie::accum<accfloat, 64> bottom = Base(bottom_scales, RepeatAlongK(min, 1), constants);
    AIE_LOOP_UNROLL_FULL
    for (int part = 0; part < kColumns / 8; ++part, b += 128) {
      const aie::vector<uint8, 128> codes = LoadCodes(units, part);
      aie::store_v(b, Weights(aie::filter_even(codes, 8), top_scales, top, constants).to_vector<bfloat16>());
      aie::store_v(b + 64, Weights(aie::filter_odd(codes, 8), bottom_scales, bottom, constants).to_vector<bfloat16>());
    }
  }
  event1();
}
