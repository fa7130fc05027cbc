// Activations of the NPU's Q4NX matrix-vector product: groups of 32 in a form that integer multipliers take without
// loss.
//
//   x       bf16 [groups][32]   the group divided by 2^E, where 2^E <= max |x| < 2^(E+1): magnitudes are below 2 (below
//   4 for E = 127) x_groups bf16 [groups][4]   2^E, and the sum of the group's 32 activations as three bf16: high +
//   middle + low
//
// Inside the product a value is the integer v = x * 2^28, in four limbs: v = sum over l of limb_l * 256^l, limb_l in
// -128 .. 127. A bf16 value is kept whole if it is at least 2^-21 of its group's largest; what is lost of a smaller one
// is below 2^-28 of that. A group that holds NaN or infinity has 2^E = NaN, so every output that reads it is NaN.
#pragma once

#include "kernels/aie2p.h"

namespace matmul_nbits {

constexpr int kGroup = 32;
constexpr int kStrip = 16;  // rows of a unit
constexpr int kLimbs = 4;
constexpr int kRecord = 4;  // of x_groups
constexpr int kFraction = 28;

// Constants of the conversion to limbs, made once a call.
struct LimbConstants {
  // v + 0x80808080 has limb_l + 128 in byte l; 128 is taken off again byte by byte.
  aie::vector<int32, 16> bias = aie::broadcast<int32, 16>(static_cast<int32>(0x80808080u));
  aie::vector<int8, 64> minus_128 = aie::broadcast<int8, 64>(static_cast<int8>(-128));
};

// 16 activations -> int8 [limb][16].
inline aie::vector<int8, 64> ToLimbs(const bfloat16* x, const LimbConstants& constants) {
  const aie::vector<int32, 16> v = aie::to_fixed<int32>(aie::load_v<16>(x), kFraction);
  const aie::vector<int8, 64> bytes = aie::add(v, constants.bias).cast_to<int8>();  // [16][limb]
  return aie::transpose(aie::add(bytes, constants.minus_128), 16, kLimbs);
}

// The bits of 1.5 * 2^(23 + 8 l - 28): an integer below 2^22 added to them is, once they are subtracted as a number,
// that integer times the weight of limb l.
constexpr int32 LimbMagic(int limb) { return 0x4b400000 + ((8 * limb - kFraction) << 23); }

}  // namespace matmul_nbits
