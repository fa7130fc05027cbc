// Tiled matrix multiplication on a core of the NPU: c += a * b^T with a in bf16, b in bfp16, fp32 sums that stay in L1
// over the tiles of K.
//
//   a bf16      [m/8][k/8][8 m][8 k]        c float [m/8][n/8][8 m][8 n]
//   b bfp16ebs8 [n/16][k/8][2][8 n][8 k]    (as dequantize_q4nx_bfp16_aie2p writes it)
//
// 2 x 2 blocks of c are in registers at a time; a block of a is widened behind its load and converted to bfp16 (8
// values of k share an exponent, nearest even) in the store slot, so the multiplier is busy in every cycle:
//
//               B0   B1        a cycle does 8 x 8 x 8 products; four multiplications need
//        A0   [ c00  c01 ]     4 + 2 loads (3 cycles), 2 conversions (2 cycles)
//        A1   [ c10  c11 ]
#include "kernels/aie2p.h"

namespace {

using Sums = aie::accum<accfloat, 64>;
using BlockStream = aie::block_vector_input_buffer_stream<bfp16ebs8, 64>;

aie::block_vector<bfp16ebs8, 64> LoadA(const bfloat16* a) {
  return aie::accum<accfloat, 64>(aie::load_v<64>(a)).to_vector<bfp16ebs8>();
}

Sums Start(const float* c, bool first) {
  if (first) return aie::zeros<accfloat, 64>();
  return Sums(aie::load_v<64>(c));
}

}  // namespace

// first = 1: c starts at zero, whatever it held.
AIE2P_KERNEL void matmul_bf16_aie2p(const bfloat16* __restrict a, const bfp16ebs8* __restrict b, float* __restrict c,
                                    int32_t m, int32_t k, int32_t n, int32_t first) {
  event0();
  aie2p::SetUpRounding();
  const int32_t row = k / 8 * 64, c_row = n / 8 * 64;
  for (int32_t z = 0; z < m / 16; ++z) {
    BlockStream stream(b);
    for (int32_t j = 0; j < n / 16; ++j) {
      float* c0 = c + (2 * z) * c_row + j * 128;
      float* c1 = c0 + c_row;
      const bfloat16* a0 = a + (2 * z) * row;
      const bfloat16* a1 = a0 + row;
      Sums c00 = Start(c0, first), c01 = Start(c0 + 64, first), c10 = Start(c1, first), c11 = Start(c1 + 64, first);
      AIE_LOOP_MIN_ITERATION_COUNT(4)
      for (int32_t i = 0; i < k / 8; ++i, a0 += 64, a1 += 64) {
        const auto block_a0 = LoadA(a0), block_a1 = LoadA(a1);
        const auto block_b0 = stream.pop(), block_b1 = stream.pop();
        c00 = mac_8x8_8x8T(block_a0, block_b0, c00), c01 = mac_8x8_8x8T(block_a0, block_b1, c01);
        c10 = mac_8x8_8x8T(block_a1, block_b0, c10), c11 = mac_8x8_8x8T(block_a1, block_b1, c11);
      }
      aie::store_v(c0, c00.to_vector<float>()), aie::store_v(c0 + 64, c01.to_vector<float>());
      aie::store_v(c1, c10.to_vector<float>()), aie::store_v(c1 + 64, c11.to_vector<float>());
    }
  }
  event1();
}

// y bf16 = m rows of c from row `first_row` on, the same block order.
AIE2P_KERNEL void matmul_bf16_store_aie2p(const float* __restrict c, bfloat16* __restrict y, int32_t m, int32_t n,
                                          int32_t first_row) {
  event0();
  aie2p::SetUpRounding();
  c += first_row * n;
  for (int32_t i = 0; i < m * n; i += 64)
    aie::store_v(y + i, aie::accum<accfloat, 64>(aie::load_v<64>(c + i)).to_vector<bfloat16>());
  event1();
}
