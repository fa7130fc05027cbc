// FusedDQP for the 8-bit form of Q4NX (w = scale * code): the language model's head, where four bits are not enough.
//
// A unit is 16 rows x 32 columns, 544 bytes: scale[16] bf16, then int8 codes, column c at 32 + 16 c, row r in byte r.
// As in aie2p_fused_dqp.cc the activations' limbs are operand A of exact integer products, here 4x8x8: eight columns of
// codes (128 bytes) are unzipped into the two B operands of rows 0-7 and 8-15.  C has 20 bits and enters the fp32
// accumulators as three bf16.
#include "kernels/matmul_nbits/aie2p_activation.h"

namespace {

using namespace matmul_nbits;

constexpr int kUnitBytes = 544;
constexpr int kHalf = kLimbs * 8;  // lanes of one half of the rows: [limb][8]

using Lanes = aie::accum<accfloat, 2 * kHalf>;  // [half of the rows][limb][8]

// Eight columns of codes. Units are aligned to 32 bytes only, so these are loads of 256 bits.
aie::vector<int8, 128> LoadCodes(const int8* codes) {
  return aie::concat(aie::load_v<32>(codes), aie::load_v<32>(codes + 32), aie::load_v<32>(codes + 64),
                     aie::load_v<32>(codes + 96));
}

Lanes FusedUnit(const uint8_t* unit, const bfloat16* x, const bfloat16* record, const Lanes& acc,
                const LimbConstants& limbs, const aie::accum<acc32, 2 * kHalf>& magic) {
  const int8* codes = reinterpret_cast<const int8*>(unit + 32);
  aie::mmul<kLimbs, 8, 8, int8, int8> top, bottom;
  top = aie::zeros<acc32, kHalf>(), bottom = aie::zeros<acc32, kHalf>();
  for (int part = 0; part < 2; ++part) {  // 16 columns
    const aie::vector<int8, 64> a = ToLimbs(x + 16 * part, limbs);
    const aie::vector<int8, 32> a0 = aie::filter_even(a, 8), a1 = aie::filter_odd(a, 8);
    const aie::vector<int8, 128> b0 = LoadCodes(codes + 256 * part), b1 = LoadCodes(codes + 256 * part + 128);
    top.mac(a0, aie::filter_even(b0, 8)), bottom.mac(a0, aie::filter_odd(b0, 8));
    top.mac(a1, aie::filter_even(b1, 8)), bottom.mac(a1, aie::filter_odd(b1, 8));
  }
  const aie::accum<acc32, 2 * kHalf> product = aie::concat(top.to_accum(), bottom.to_accum());
  Lanes rest = aie::sub(aie::add(product, magic).cast_to<accfloat>(), magic.cast_to<accfloat>());
  const aie::vector<bfloat16, 2 * kHalf> high = rest.to_vector<bfloat16>();
  rest = aie::sub(rest, high);
  const aie::vector<bfloat16, 2 * kHalf> middle = rest.to_vector<bfloat16>();
  const aie::vector<bfloat16, 2 * kHalf> low = aie::sub(rest, middle).to_vector<bfloat16>();

  const aie::vector<bfloat16, kStrip> scaled =
      aie::mul(aie::load_v<kStrip>(reinterpret_cast<const bfloat16*>(unit)), record[0]).to_vector<bfloat16>();
  const aie::vector<bfloat16, 2 * kHalf> scales =
      aie::concat(scaled.extract<8>(0).grow_replicate<kHalf>(), scaled.extract<8>(1).grow_replicate<kHalf>());
  return aie::mac(aie::mac(aie::mac(acc, low, scales), middle, scales), high, scales);
}

void Fold(const Lanes& lanes, float* acc) {
  const auto limb = [&](int l) { return aie::concat(lanes.extract<8>(l), lanes.extract<8>(kLimbs + l)); };
  aie::accum<accfloat, kStrip> sum = limb(0);
  for (int l = 1; l < kLimbs; ++l) sum = aie::add(sum, limb(l));
  sum = aie::add(sum, aie::accum<accfloat, kStrip>(aie::load_v<kStrip>(acc)));
  aie::store_v(acc, sum.to_vector<float>());
}

}  // namespace

// The arguments are those of matmul_nbits_aie2p.
AIE2P_KERNEL void matmul_nbits_8bit_aie2p(const uint8_t* __restrict units, const bfloat16* __restrict x,
                                          const bfloat16* __restrict x_groups, float* __restrict acc, int32_t n_units,
                                          int32_t strip, int32_t group, int32_t groups, int32_t x_group0) {
  event0();
  aie2p::SetUpRounding();
  const LimbConstants limbs;
  const aie::vector<int32, kHalf> half_magic =
      aie::concat(aie::broadcast<int32, 8>(LimbMagic(0)), aie::broadcast<int32, 8>(LimbMagic(1)),
                  aie::broadcast<int32, 8>(LimbMagic(2)), aie::broadcast<int32, 8>(LimbMagic(3)));
  const aie::accum<acc32, 2 * kHalf> magic(aie::concat(half_magic, half_magic));
  while (n_units > 0) {
    const int32_t left = groups - group, run = n_units < left ? n_units : left;
    Lanes lanes = aie::zeros<accfloat, 2 * kHalf>();
    AIE_LOOP_MIN_ITERATION_COUNT(1)
    for (int32_t i = 0; i < run; ++i, units += kUnitBytes)
      lanes = FusedUnit(units, x + kGroup * (x_group0 + group + i), x_groups + kRecord * (x_group0 + group + i), lanes,
                        limbs, magic);
    Fold(lanes, acc + kStrip * strip);
    n_units -= run, group = 0, ++strip;
  }
  event1();
}
