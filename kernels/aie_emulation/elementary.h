// Non-linear functions and conversions between integers and floating point. Of the non-linear ones the AIE API
// documents the function and no error bound, rounding or value at the ends: what is assumed stands at each.
#pragma once

#include "kernels/aie_emulation/arithmetic.h"
#include "kernels/aie_emulation/compare.h"

namespace aie {

// AIE API, Elementary Functions, exp2: "the 2^x function on the elements", fp32 in, bf16 out. Assumed: exact before the
// rounding to bf16, by the register like other conversions, since no measured error is published that would say more.
// 16 lanes an instruction (detail/aie2p/elementary.hpp, Exp2).
template <class TR = bfloat16, unsigned N>
vector<TR, N> exp2(const vector<float, N>& v) {
  static_assert(std::is_same_v<TR, bfloat16>, "exp2 gives bfloat16");
  aie_emulation::CountMove(aie_emulation::Issues(N, 16));
  vector<TR, N> result;
  for (unsigned i = 0; i < N; ++i)
    result.lanes[i] =
        aie_emulation::FromFloat<bfloat16>(aie_emulation::Flush(std::exp2(aie_emulation::Flush(v.lanes[i]))));
  return result;
}

// AIE API, Elementary Functions, tanh: "the hyperbolic tangent function on the elements", fp32 in, bf16 out. The
// silicon is off by up to 0.038 in published measurements. That is the largest error of the piecewise-linear
// approximation of Amin, Curtis and Hayes-Gill (1997, "PLAN"), at x = 0.5; assumed: that one, x, then x/2 + 1/4, then
// x/8 + 11/16, then 1. 16 lanes an instruction (Tanh).
template <class TR = bfloat16, unsigned N>
vector<TR, N> tanh(const vector<float, N>& v) {
  static_assert(std::is_same_v<TR, bfloat16>, "tanh gives bfloat16");
  aie_emulation::CountMove(aie_emulation::Issues(N, 16));
  vector<TR, N> result;
  for (unsigned i = 0; i < N; ++i) {
    const float x = aie_emulation::Flush(v.lanes[i]), a = std::fabs(x);
    const float y = a < 0.5f      ? a
                    : a < 1.1875f ? 0.5f * a + 0.25f
                    : a < 2.5f    ? 0.125f * a + 0.6875f
                    : a >= 2.5f   ? 1.0f
                                  : a;
    result.lanes[i] = aie_emulation::FromFloat<bfloat16>(std::copysign(y, x));
  }
  return result;
}

// AIE API, Elementary Functions, inv, sqrt, invsqrt of a scalar: fp32 in and out. Assumed: correctly rounded, as
// nothing is published of their error.
inline float inv(float x) {
  return aie_emulation::CountScalar(1), aie_emulation::Flush(1.0f / aie_emulation::Flush(x));
}
inline float sqrt(float x) {
  return aie_emulation::CountScalar(1), aie_emulation::Flush(std::sqrt(aie_emulation::Flush(x)));
}
inline float invsqrt(float x) {
  return aie_emulation::CountScalar(1), aie_emulation::Flush(1.0f / std::sqrt(aie_emulation::Flush(x)));
}

// AIE API, Elementary Functions, inv, invsqrt of an fp32 vector: "a scalar operation ... applied to each element
// individually". Counted so: extract, compute, insert.
template <unsigned N>
vector<float, N> inv(const vector<float, N>& v) {
  vector<float, N> result;
  aie_emulation::CountMove(2 * N);
  for (unsigned i = 0; i < N; ++i) result.lanes[i] = inv(v.lanes[i]);
  return result;
}
template <unsigned N>
vector<float, N> invsqrt(const vector<float, N>& v) {
  vector<float, N> result;
  aie_emulation::CountMove(2 * N);
  for (unsigned i = 0; i < N; ++i) result.lanes[i] = invsqrt(v.lanes[i]);
  return result;
}

// AIE API, Elementary Functions, inv of a bf16 vector. As the header computes it: the bit trick and the two correction
// steps of detail/aie2p/elementary.hpp (Inv), operation by operation.
template <unsigned N>
vector<bfloat16, N> inv(const vector<bfloat16, N>& v) {
  const auto magic = broadcast<int16, N>(int16(0x7eb5));
  auto y = sub(magic, v.template cast_to<int16>()).template cast_to<bfloat16>();
  accum<accfloat, N> k2, two;
  k2.lanes.fill(1.436142f), two.lanes.fill(2.0f);
  aie_emulation::CountMove(2 * aie_emulation::Issues(k2.bits()));
  auto acc = add(negmul(v, y), k2);
  acc = mul(acc.template to_vector<bfloat16>(), y);
  acc = negmul(acc.template to_vector<bfloat16>(), broadcast<bfloat16, N>(1.9395974f));
  y = acc.template to_vector<bfloat16>();
  acc = mac(two, y, v);
  acc = negmul(y, acc.template to_vector<bfloat16>());
  return acc.template to_vector<bfloat16>();
}

// AIE API, Floating-point Conversion, to_float: a fixed-point value, shift being the "position of the point": value /
// 2^shift; "emulated" on XDNA 2 from all integer types. Counted as Fix2Float does it: the integer is added to the bits
// of the number 1.5 * 2^(23 - shift), whose last mantissa bit is worth 2^-shift, and that number is subtracted again.
// Exact for 16 bits and fewer.
template <class TR = float, class T, unsigned N>
vector<TR, N> to_float(const vector<T, N>& v, int shift = 0) {
  static_assert(std::is_integral_v<T> || aie_emulation::kIsNibble<T>);
  static_assert(aie_emulation::kBits<T> <= 16, "the emulation has to_float for integers of 16 bits or fewer");
  const accum<acc32, N> value(v);
  aie_emulation::CountMove(aie_emulation::Issues(value.bits()));                // the magic number
  aie_emulation::CountMultiply(2 * aie_emulation::Issues(value.bits(), 2048));  // integer add, floating-point subtract
  accum<accfloat, N> result;
  for (unsigned i = 0; i < N; ++i) result.lanes[i] = aie_emulation::Flush(std::ldexp(float(value.lanes[i]), -shift));
  return result.template to_vector<TR>();
}

// AIE API, Floating-point Conversion, to_fixed of bf16: value * 2^shift, "floor rounding, regardless of the
// rounding_mode"; 16 bits are "native to 32b + extract lower 16b". What does not fit 32 bits, and NaN, are not
// documented: assumed saturated, and 0.
template <class TR = int32, unsigned N>
vector<TR, N> to_fixed(const vector<bfloat16, N>& v, int shift = 0) {
  static_assert(std::is_same_v<TR, int32> || std::is_same_v<TR, int16>);
  aie_emulation::CountStore(aie_emulation::Issues(N * 32));
  if constexpr (std::is_same_v<TR, int16>) aie_emulation::CountMove(aie_emulation::Issues(v.bits()));
  vector<TR, N> result;
  for (unsigned i = 0; i < N; ++i) {
    const double x = std::floor(std::ldexp(double(aie_emulation::FlushedValue(v.lanes[i])), shift));
    result.lanes[i] = TR(int32_t(std::isnan(x) ? 0 : std::min(2147483647.0, std::max(-2147483648.0, x))));
  }
  return result;
}

}  // namespace aie
