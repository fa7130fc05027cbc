// Q4NX units -> operand B of the bfp16 matrix multiplication, rounded once from fp32:
//
//   b bfp16ebs8 [strips][4 * groups][2][8 n][8 k]      n = 16 strip + 8 half + row, k = 8 * block + column; 9 bytes a
//   row of 8 k
//
// Both halves of a strip lie side by side, since the multiplication takes two blocks of n at a time.
#include "kernels/dequantize_q4nx/aie2p_unit.h"

namespace {

using namespace dequantize_q4nx;

// Sixteen values, one a row -> [16 n][8 k], each repeated along k.
aie::vector<bfloat16, 128> RepeatAlongK(const aie::vector<bfloat16, kRows>& rows) {
  const auto [low2, high2] = aie::interleave_zip(rows, rows, 1);
  const aie::vector<bfloat16, 32> twice = aie::concat(low2, high2);
  const auto [low4, high4] = aie::interleave_zip(twice, twice, 1);
  const auto [first, second] = aie::interleave_zip(low4, low4, 1);
  const auto [third, fourth] = aie::interleave_zip(high4, high4, 1);
  return aie::concat(first, second, third, fourth);
}

}  // namespace

AIE2P_KERNEL void dequantize_q4nx_bfp16_aie2p(const uint8_t* __restrict units, bfp16ebs8* __restrict b, int32_t strips,
                                              int32_t groups) {
  event0();
  aie2p::SetUpRounding();
  const Constants constants;
  aie::block_vector_output_buffer_stream<bfp16ebs8, 64> out(b);
  AIE_LOOP_MIN_ITERATION_COUNT(1)
  for (int32_t unit = 0; unit < strips * groups; ++unit, units += kUnitBytes) {
    const bfloat16* scale = reinterpret_cast<const bfloat16*>(units);
    const aie::vector<bfloat16, 128> scales = RepeatAlongK(aie::load_v<kRows>(scale));
    const aie::vector<bfloat16, 128> mins = RepeatAlongK(aie::load_v<kRows>(scale + kRows));
    const Block top_scales = scales.extract<64>(0), bottom_scales = scales.extract<64>(1);
    const aie::accum<accfloat, 64> top = Base(top_scales, mins.extract<64>(0), constants);
    const aie::accum<accfloat, 64> bottom = Base(bottom_scales, mins.extract<64>(1), constants);
    AIE_LOOP_UNROLL_FULL
    for (int part = 0; part < kColumns / 8; ++part) {
      const aie::vector<uint8, 128> codes = aie::transpose(LoadCodes(units, part), 8, kRows);  // [16 n][8 k]
      out << Weights(codes.extract<64>(0), top_scales, top, constants).to_vector<bfp16ebs8>();
      out << Weights(codes.extract<64>(1), bottom_scales, bottom, constants).to_vector<bfp16ebs8>();
    }
  }
  event1();
}
