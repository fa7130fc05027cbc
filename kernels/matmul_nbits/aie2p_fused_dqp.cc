// FusedDQP on a core of the NPU: y += W x for a stream of Q4NX weights that are dequantised in registers and never
// written back.
//
// A unit of weights is 16 rows x 32 columns, 320 bytes, in Q4NX's own order:
//
//        [0, 32) scale[16] bf16      [32, 64) min[16] bf16      [64, 320) nibbles: column c at 64 + 8 c, row r in
//        nibble r
//
// so that 16 columns of nibbles, 128 bytes, are exactly operand B of the 4x16x16 integer multiplication (16 k x 16 n,
// low nibble first). With the activations as operand A, one row a limb, the products need no broadcast, no unpacking
// and no rounding:
//
//        A: limbs of 16 activations        B: nibbles                     C: 4 limbs x 16 rows, int32, exact
//        l0 [ x0 x1 ... x15 ]              c0  [ r0 r1 ... r15 ]
//        l1 [            ... ]      *      ...                      =
//        l2 [            ... ]             c15 [            ...]
//        l3 [            ... ]
//
// A group (two multiplications) ends with   acc += scale * 2^E * (C, weighted by limb) + min * sum(x)   in 64 fp32
// lanes, which are folded to 16 when the strip of rows changes. fp32 accumulation; C (17 bits) enters as two bf16,
// scale * 2^E is exact in bf16.
#include "kernels/matmul_nbits/aie2p_activation.h"

namespace {

using namespace matmul_nbits;

constexpr int kUnitBytes = 320;

using Lanes = aie::accum<accfloat, kLimbs * kStrip>;

Lanes FusedUnit(const uint8_t* unit, const bfloat16* x, const bfloat16* record, const Lanes& acc,
                const LimbConstants& limbs, const aie::accum<acc32, kLimbs * kStrip>& magic,
                const aie::vector<bfloat16, kStrip>& zero) {
  const uint4* nibbles = reinterpret_cast<const uint4*>(unit + 64);
  aie::mmul<kLimbs, 16, kStrip, int8, uint4> product;
  product.mul(ToLimbs(x, limbs), aie::load_v<256>(nibbles));
  product.mac(ToLimbs(x + 16, limbs), aie::load_v<256>(nibbles + 128));
  const Lanes value = aie::sub(aie::add(product.to_accum(), magic).cast_to<accfloat>(), magic.cast_to<accfloat>());
  const aie::vector<bfloat16, kLimbs * kStrip> high = value.to_vector<bfloat16>();
  const aie::vector<bfloat16, kLimbs * kStrip> low = aie::sub(value, high).to_vector<bfloat16>();

  const bfloat16* scale = reinterpret_cast<const bfloat16*>(unit);
  const aie::vector<bfloat16, kStrip> scaled = aie::mul(aie::load_v<kStrip>(scale), record[0]).to_vector<bfloat16>();
  const aie::vector<bfloat16, kLimbs * kStrip> scales = scaled.grow_replicate<kLimbs * kStrip>();
  const aie::vector<bfloat16, kLimbs * kStrip> mins =
      aie::load_v<kStrip>(scale + kStrip).grow_replicate<kLimbs * kStrip>();
  const aie::vector<bfloat16, kLimbs * kStrip> sums =
      aie::concat(zero, aie::broadcast<bfloat16, kStrip>(record[3]), aie::broadcast<bfloat16, kStrip>(record[2]),
                  aie::broadcast<bfloat16, kStrip>(record[1]));
  return aie::mac(aie::mac(aie::mac(acc, low, scales), high, scales), mins, sums);
}

// acc[16] += the four limbs' lanes, small ones first.
void Fold(const Lanes& lanes, float* acc) {
  aie::accum<accfloat, kStrip> sum = lanes.extract<kStrip>(0);
  for (int limb = 1; limb < kLimbs; ++limb) sum = aie::add(sum, lanes.extract<kStrip>(limb));
  sum = aie::add(sum, aie::accum<accfloat, kStrip>(aie::load_v<kStrip>(acc)));
  aie::store_v(acc, sum.to_vector<float>());
}

}  // namespace

// Unit i is (strip, group), (strip, group + 1), ..., wrapping at `groups` to group 0 of the next strip;
// acc[16 * strip ...] += W * x of groups x_group0 + group.
AIE2P_KERNEL void matmul_nbits_aie2p(const uint8_t* __restrict units, const bfloat16* __restrict x,
                                     const bfloat16* __restrict x_groups, float* __restrict acc, int32_t n_units,
                                     int32_t strip, int32_t group, int32_t groups, int32_t x_group0) {
  event0();
  aie2p::SetUpRounding();
  const LimbConstants limbs;
  const aie::accum<acc32, kLimbs * kStrip> magic(
      aie::concat(aie::broadcast<int32, kStrip>(LimbMagic(0)), aie::broadcast<int32, kStrip>(LimbMagic(1)),
                  aie::broadcast<int32, kStrip>(LimbMagic(2)), aie::broadcast<int32, kStrip>(LimbMagic(3))));
  const aie::vector<bfloat16, kStrip> zero = aie::zeros<bfloat16, kStrip>();
  while (n_units > 0) {
    const int32_t left = groups - group, run = n_units < left ? n_units : left;
    Lanes lanes = aie::zeros<accfloat, kLimbs * kStrip>();
    AIE_LOOP_MIN_ITERATION_COUNT(1)
    for (int32_t i = 0; i < run; ++i, units += kUnitBytes)
      lanes = FusedUnit(units, x + kGroup * (x_group0 + group + i), x_groups + kRecord * (x_group0 + group + i), lanes,
                        limbs, magic, zero);
    Fold(lanes, acc + kStrip * strip);
    n_units -= run, group = 0, ++strip;
  }
  event1();
}
