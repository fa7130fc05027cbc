// The arithmetic of Q4NX dequantisation on a core, shared by the bf16 and the bfp16 tile: w = scale * q + min.
//
// A nibble becomes bf16 without a conversion: the bits 0x4300 | q are the number 128 + q. So w = scale * (128 + q) +
// base with base = min - 128 * scale, made once for the 32 columns of a group. Products are exact in fp32; the sum's
// error is at most 2^-17 * |scale|, below the half unit of bf16 in the last place wherever |w| >= 2^-8 * |scale|.
#pragma once

#include "kernels/aie2p.h"

namespace dequantize_q4nx {

constexpr int kUnitBytes =
    320;  // 16 rows x 32 columns: scale[16], min[16] bf16, then 8 bytes a column (matmul_nbits/aie2p_fused_dqp.cc)
constexpr int kRows = 16, kColumns = 32;

using Block = aie::vector<bfloat16, 64>;

struct Constants {
  aie::vector<uint16, 64> exponent = aie::broadcast<uint16, 64>(uint16{0x4300});
  Block one = aie::broadcast<bfloat16, 64>(1.0f), minus_128 = aie::broadcast<bfloat16, 64>(-128.0f);
};

// base of 64 weights.
inline aie::accum<accfloat, 64> Base(const Block& scales, const Block& mins, const Constants& constants) {
  return aie::mac(aie::mul(mins, constants.one), scales, constants.minus_128);
}

// 64 codes, one a byte.
inline aie::accum<accfloat, 64> Weights(const aie::vector<uint8, 64>& codes, const Block& scales,
                                        const aie::accum<accfloat, 64>& base, const Constants& constants) {
  return aie::mac(base, aie::bit_or(codes.unpack(), constants.exponent).cast_to<bfloat16>(), scales);
}

// Eight columns of a unit, [8 k][16 n], one code a byte.
inline aie::vector<uint8, 128> LoadCodes(const uint8_t* unit, int part) {
  return aie::load_v<128>(reinterpret_cast<const uint4*>(unit + 64 + 64 * part)).unpack();
}

}  // namespace dequantize_q4nx
