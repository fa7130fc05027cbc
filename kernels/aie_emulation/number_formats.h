// Element types and the roundings between them.
//
// The AIE API documents the types and when a rounding mode counts (aie::set_rounding: "accumulator to vector
// conversions"). Of floating point it says no more; taken from elsewhere: subnormal values are flushed to zero (UG1603,
// Floating-Point Accuracy; AM020, Floating-Point Vector Unit). Assumed: arithmetic rounds to nearest even.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/aie_emulation/core.h"

using int8 = int8_t;
using int16 = int16_t;
using int32 = int32_t;
using int64 = int64_t;
using uint8 = uint8_t;
using uint16 = uint16_t;
using uint32 = uint32_t;
using uint64 = uint64_t;

// AIE API, Accumulator Element Types: "at least" so many bits an element; natively 32, 64 and fp32 on XDNA 2 (Basic
// Types, table of accumulators). accauto asks for the default of Arithmetic.
struct accfloat {};
struct acc32 {};
struct acc64 {};
struct accauto {};

// AIE API, Basic Types (Block Vector): "several elements share some common data"; Memory (Block Vector Buffer Streams):
// 64 of them take 576 bits. The order inside is not documented; as mlir-aie's helper.h has it, a block is its exponent
// byte and then 8 mantissas.
struct bfp16ebs8 {
  uint8_t byte;
};

namespace aie_emulation {

inline float Flush(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
}

// Rounds the magnitude `high + fraction / one` of a sign-and-magnitude number: does `high` get one added?
inline bool RoundsUp(bool negative, uint64_t high, uint64_t fraction, uint64_t one, aie::rounding_mode mode) {
  using enum aie::rounding_mode;
  const uint64_t half = one / 2;
  switch (mode) {
    case floor:
      return fraction != 0 && negative;
    case ceil:
      return fraction != 0 && !negative;
    case symmetric_floor:
      return false;
    case symmetric_ceil:
      return fraction != 0;
    case negative_inf:
      return fraction > half || (fraction == half && negative);
    case positive_inf:
      return fraction > half || (fraction == half && !negative);
    case symmetric_zero:
      return fraction > half;
    case symmetric_inf:
      return fraction >= half;
    case conv_even:
      return fraction > half || (fraction == half && (high & 1));
    case conv_odd:
      return fraction > half || (fraction == half && !(high & 1));
  }
  return false;
}

// fp32 -> bf16 (vconv.bf16.fp32). The API documents that the mode counts, and no more. Assumed, as IEEE 754 has it: NaN
// stays NaN, a value that rounds past the largest finite one becomes infinite.
inline uint16_t ToBfloat16Bits(float x, aie::rounding_mode mode) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint16_t sign = uint16_t(bits >> 31 << 15);
  if (magnitude > 0x7f800000u) return uint16_t(bits >> 16 | 0x40);
  if (magnitude < 0x00800000u) return sign;
  if (magnitude == 0x7f800000u) return uint16_t(bits >> 16);
  const uint32_t high = magnitude >> 16;
  return uint16_t(sign | (high + RoundsUp(bits >> 31, high, magnitude & 0xffff, 0x10000, mode)));
}

// The same to nearest even, without branches.
inline uint16_t ToBfloat16BitsNearestEven(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7fffffffu;
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const uint32_t flushed = magnitude < 0x00800000u ? bits >> 31 << 15 : rounded;
  return uint16_t(magnitude > 0x7f800000u ? bits >> 16 | 0x40 : flushed);
}

}  // namespace aie_emulation

// AIE API, Basic Types: bfloat16. A scalar conversion is the compiler's, which is not documented: assumed to nearest
// even, C++'s default. Vectors convert with the register's mode.
struct bfloat16 {
  uint16_t bits = 0;

  bfloat16() = default;
  bfloat16(float x) : bits(aie_emulation::ToBfloat16BitsNearestEven(x)) {}
  bfloat16(double x) : bfloat16(float(x)) {}
  bfloat16(int x) : bfloat16(float(x)) {}
  bfloat16(unsigned x) : bfloat16(float(x)) {}
  static bfloat16 FromBits(uint16_t bits) {
    bfloat16 x;
    x.bits = bits;
    return x;
  }
  operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
  bfloat16& operator+=(float x) { return *this = float(*this) + x; }
  bfloat16& operator-=(float x) { return *this = float(*this) - x; }
  bfloat16& operator*=(float x) { return *this = float(*this) * x; }
  bfloat16& operator/=(float x) { return *this = float(*this) / x; }
};

// AIE API, Basic Types: int4 and uint4. A pointer to them steps over bytes, a vector of them packs two into each byte;
// which comes first is not documented: assumed the low nibble, little-endian as wider elements are.
struct int4_t {
  int8_t value = 0;
  int4_t() = default;
  constexpr int4_t(int x) : value(int8_t(uint8_t(x) << 4) >> 4) {}
  constexpr operator int() const { return value; }
};
struct uint4_t {
  uint8_t value = 0;
  uint4_t() = default;
  constexpr uint4_t(int x) : value(x & 15) {}
  constexpr operator int() const { return value; }
};
using int4 = int4_t;
using uint4 = uint4_t;

namespace aie_emulation {

template <class T>
constexpr bool kIsFloat = std::is_same_v<T, float> || std::is_same_v<T, bfloat16>;
template <class T>
constexpr bool kIsNibble = std::is_same_v<T, int4> || std::is_same_v<T, uint4>;
template <class T>
constexpr bool kIsSigned = std::is_signed_v<T> || kIsFloat<T> || std::is_same_v<T, int4>;
template <class T>
constexpr unsigned kBits = kIsNibble<T> ? 4 : 8 * sizeof(T);
template <class T>
constexpr bool kIsElement = kIsFloat<T> || kIsNibble<T> || (std::is_integral_v<T> && sizeof(T) <= 4);

// What a tag's lanes are computed in.
template <class Tag>
struct AccumLane;
template <>
struct AccumLane<accfloat> {
  using type = float;
};
template <>
struct AccumLane<acc32> {
  using type = int32_t;
};
template <>
struct AccumLane<acc64> {
  using type = int64_t;
};
template <class Tag>
constexpr unsigned kAccumBits = 8 * sizeof(typename AccumLane<Tag>::type);

inline float FlushedValue(float x) { return Flush(x); }
inline float FlushedValue(bfloat16 x) { return Flush(float(x)); }

template <class T>
T FromFloat(float x) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return bfloat16::FromBits(ToBfloat16Bits(x, ThisCore().rounding));
  else
    return T(x);
}

// AIE API, Vector and Accumulator Conversions: "values can be shifted down before rounding and saturation is applied"
// (srs), by the rounding and saturation registers. A negative shift, not documented, shifts up.
template <class T>
T ShiftRoundSaturate(int64_t value, int shift, bool is_signed = kIsSigned<T>) {
  const Core& core = ThisCore();
  if (shift < 0) value = int64_t(uint64_t(value) << -shift);
  if (shift > 0) {
    const bool negative = value < 0;
    const uint64_t magnitude = negative ? 0 - uint64_t(value) : uint64_t(value), one = uint64_t(1) << shift;
    const uint64_t high = magnitude >> shift;
    const int64_t rounded = int64_t(high + RoundsUp(negative, high, magnitude & (one - 1), one, core.rounding));
    value = negative ? -rounded : rounded;
  }
  constexpr int bits = kBits<T>;
  const int64_t top = is_signed ? (int64_t(1) << (bits - 1)) - 1 : (int64_t(1) << bits) - 1;
  const int64_t bottom = is_signed ? -top - (core.saturation == aie::saturation_mode::symmetric ? 0 : 1) : 0;
  if (core.saturation != aie::saturation_mode::none) value = value > top ? top : value < bottom ? bottom : value;
  return T(value);
}

// Eight fp32 values -> one bfp16ebs8 block (vconv.bfp16ebs8.fp32). The API documents neither format nor rounding. Taken
// from mlir-aie's helper.h (floatToBfp16, which describes the power-up mode): the largest exponent is shared, mantissas
// are 8-bit two's complement with the binary point after the second bit, value = mantissa * 2^(exponent - 127 - 6), and
// floor truncates the two's complement. Assumed: the other modes round the mantissa likewise, since the conversion is
// "accumulator to vector"; it saturates at 127, since the exponent is chosen before rounding; infinity and NaN, which
// have no form in a block, give it the exponent 255.
inline void ToBfp16Block(const float* values, uint8_t* exponent, int8_t* mantissas) {
  const aie::rounding_mode mode = ThisCore().rounding;
  unsigned shared = 0;
  for (int i = 0; i < 8; ++i) shared = std::max(shared, std::bit_cast<uint32_t>(values[i]) >> 23 & 0xff);
  *exponent = uint8_t(shared);
  for (int i = 0; i < 8; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]);
    const unsigned own = bits >> 23 & 0xff;
    if (own == 0) {
      mantissas[i] = 0;
      continue;
    }
    const bool negative = bits >> 31;
    const uint64_t fraction = (uint64_t(bits & 0x7fffff) | 0x800000)
                              << 24;                               // 1.23 and room to shift right without loss
    const unsigned shift = 24 + 17 + std::min(shared - own, 18u);  // leaves 7 bits of the largest element
    const uint64_t high = fraction >> shift, low = fraction & ((uint64_t(1) << shift) - 1);
    const int magnitude = int(high + RoundsUp(negative, high, low, uint64_t(1) << shift, mode));
    mantissas[i] = int8_t(negative ? -magnitude : std::min(magnitude, 127));
  }
}

// 2^(exponent - 127 - 6).
inline double Bfp16Scale(uint8_t exponent) {
  if (exponent == 255) return std::numeric_limits<double>::quiet_NaN();
  return std::bit_cast<double>(uint64_t(exponent - 133 + 1023) << 52);
}

}  // namespace aie_emulation
