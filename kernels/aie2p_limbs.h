// fp32 products out of bf16 multipliers. The core multiplies bf16 only; AMD's fp32 product of three limbs a side costs
// 13 slots for 32 lanes. Two limbs a side are 16 bits of mantissa, enough in front of a result that is rounded to 8,
// for 3 slots of 64 lanes.
//
//   x = high + low + e,  |e| <= 2^-18 |x|        a * b = high high + high low + low high,  to 2^-16
//
// What is not finite, or rounds to infinity in bf16, becomes NaN.
#pragma once

#include "kernels/aie2p.h"

namespace aie2p {

template <unsigned N>
using Bf16 = aie::vector<bfloat16, N>;
template <unsigned N>
using Fp32 = aie::accum<accfloat, N>;

template <unsigned N>
struct Limbs {
  Bf16<N> high, low;
};

template <unsigned N>
inline Limbs<N> Split(const Fp32<N>& x) {
  const Bf16<N> high = x.template to_vector<bfloat16>();
  return {high, Bf16<N>(aie::sub(x, high).template to_vector<bfloat16>())};
}

template <unsigned N>
inline Limbs<N> SplitScalar(float x) {
  const bfloat16 high = x;
  return {aie::broadcast<bfloat16, N>(high), aie::broadcast<bfloat16, N>(bfloat16(x - static_cast<float>(high)))};
}

// acc + a * b
template <unsigned N>
inline Fp32<N> MultiplyAdd(const Fp32<N>& acc, const Limbs<N>& a, const Limbs<N>& b) {
  return aie::mac(aie::mac(aie::mac(acc, a.low, b.high), a.high, b.low), a.high, b.high);
}
template <unsigned N>
inline Fp32<N> MultiplyAdd(const Fp32<N>& acc, const Limbs<N>& a, const Bf16<N>& b) {
  return aie::mac(aie::mac(acc, a.low, b), a.high, b);
}

// acc - a * b
template <unsigned N>
inline Fp32<N> MultiplySubtract(const Fp32<N>& acc, const Limbs<N>& a, const Limbs<N>& b) {
  return aie::msc(aie::msc(aie::msc(acc, a.low, b.high), a.high, b.low), a.high, b.high);
}

template <unsigned N>
inline Fp32<N> Multiply(const Limbs<N>& a, const Limbs<N>& b) {
  const Fp32<N> small = aie::mac(aie::mul(a.low, b.high), a.high, b.low);
  return aie::mac(small, a.high, b.high);
}
template <unsigned N>
inline Fp32<N> Multiply(const Limbs<N>& a, const Bf16<N>& b) {
  return aie::mac(aie::mul(a.low, b), a.high, b);
}
template <unsigned N>
inline Fp32<N> Multiply(const Bf16<N>& a, const Limbs<N>& b) {
  return Multiply(b, a);
}

// N consecutive values as an operand of the products above: fp32 in two limbs, bf16 as it is.
template <unsigned N>
inline Limbs<N> LoadOperand(const float* x) {
  return Split(Fp32<N>(aie::load_v<N>(x)));
}
template <unsigned N>
inline Bf16<N> LoadOperand(const bfloat16* x) {
  return aie::load_v<N>(x);
}

}  // namespace aie2p
