// Comparison, selection, maximum and minimum, bit operations. All of them take the mv slot, one instruction for each
// 512 bits; fp32 is compared as integers after two fix-ups of the sign (detail/aie2/max_min.hpp).
#pragma once

#include "kernels/aie_emulation/arithmetic.h"

namespace aie_emulation {

template <class T, unsigned N>
void CountCompare() {
  CountMove(Issues(aie::vector<T, N>::bits()) * (std::is_same_v<T, float> ? 3 : 1));
}

template <class T>
auto Comparable(T x) {
  if constexpr (kIsFloat<T>)
    return float(x);
  else
    return int64_t(x);
}

template <class T, unsigned N, class F>
aie::mask<N> Compare(const aie::vector<T, N>& a, const aie::vector<T, N>& b, F f) {
  static_assert(!kIsNibble<T>, "the core has no 4-bit comparison");
  CountCompare<T, N>();
  aie::mask<N> m;
  for (unsigned i = 0; i < N; ++i) m.bits[i] = f(Comparable(a.lanes[i]), Comparable(b.lanes[i]));
  return m;
}

template <class T, unsigned N, class F>
aie::vector<T, N> Choose(const aie::vector<T, N>& a, const aie::vector<T, N>& b, F first) {
  static_assert(!kIsNibble<T>, "the core has no 4-bit comparison");
  CountCompare<T, N>();
  aie::vector<T, N> result;
  for (unsigned i = 0; i < N; ++i)
    result.lanes[i] = first(Comparable(a.lanes[i]), Comparable(b.lanes[i])) ? a.lanes[i] : b.lanes[i];
  return result;
}

template <class T, unsigned N, class F>
aie::vector<T, N> Bitwise(const aie::vector<T, N>& a, const aie::vector<T, N>& b, F f) {
  static_assert(!kIsFloat<T> && !kIsNibble<T>, "bit operations are for integers of 8 bits or more");
  CountMove(Issues(a.bits()));
  aie::vector<T, N> result;
  for (unsigned i = 0; i < N; ++i) result.lanes[i] = T(f(uint32_t(a.lanes[i]), uint32_t(b.lanes[i])));
  return result;
}

}  // namespace aie_emulation

namespace aie {

// Emulation: each operation also takes a scalar on either side, which is broadcast.
#define AIE_EMULATION_BINARY(name, body)                    \
  template <class T, unsigned N>                            \
  auto name(const vector<T, N>& a, const vector<T, N>& b) { \
    return body;                                            \
  }                                                         \
  template <class T, unsigned N, class S>                   \
    requires aie_emulation::kIsScalarOperand<S>             \
  auto name(const vector<T, N>& a, S b) {                   \
    return name(a, broadcast<T, N>(T(b)));                  \
  }                                                         \
  template <class T, unsigned N, class S>                   \
    requires aie_emulation::kIsScalarOperand<S>             \
  auto name(S a, const vector<T, N>& b) {                   \
    return name(broadcast<T, N>(T(a)), b);                  \
  }

// AIE API, Comparison, lt, le, gt, ge, eq, neq: a mask of v1[i] < v2[i] and so on, bit i for element i. NaN is not
// documented: assumed as C++ compares it, unequal to all and never less or greater.
AIE_EMULATION_BINARY(lt, aie_emulation::Compare(a, b, [](auto x, auto y) { return x < y; }))
AIE_EMULATION_BINARY(le, aie_emulation::Compare(a, b, [](auto x, auto y) { return x <= y; }))
AIE_EMULATION_BINARY(gt, aie_emulation::Compare(a, b, [](auto x, auto y) { return x > y; }))
AIE_EMULATION_BINARY(ge, aie_emulation::Compare(a, b, [](auto x, auto y) { return x >= y; }))
AIE_EMULATION_BINARY(eq, aie_emulation::Compare(a, b, [](auto x, auto y) { return x == y; }))
AIE_EMULATION_BINARY(neq, aie_emulation::Compare(a, b, [](auto x, auto y) { return x != y; }))

// AIE API, Comparison, max, min: "the maximum values", "the minimum values". NaN and zeros of both signs are not
// documented; as the instructions are named: vmax_lt, the second operand where first < second; vmin_ge, the second
// where first >= second. So NaN gives the first.
AIE_EMULATION_BINARY(max, aie_emulation::Choose(a, b, [](auto x, auto y) { return !(x < y); }))
AIE_EMULATION_BINARY(min, aie_emulation::Choose(a, b, [](auto x, auto y) { return !(x >= y); }))

// AIE API, Bits, bit_and, bit_or, bit_xor: v1[i] & v2[i] and so on.
AIE_EMULATION_BINARY(bit_and, aie_emulation::Bitwise(a, b, [](uint32_t x, uint32_t y) { return x & y; }))
AIE_EMULATION_BINARY(bit_or, aie_emulation::Bitwise(a, b, [](uint32_t x, uint32_t y) { return x | y; }))
// The core has and, or; exclusive or is or, and, subtract (detail/aie2/bit.hpp).
AIE_EMULATION_BINARY(bit_xor, (aie_emulation::CountMove(2 * aie_emulation::Issues(a.bits())),
                               aie_emulation::Bitwise(a, b, [](uint32_t x, uint32_t y) { return x ^ y; })))
#undef AIE_EMULATION_BINARY

// AIE API, Bits, bit_not: ~v[i].
template <class T, unsigned N>
vector<T, N> bit_not(const vector<T, N>& v) {
  return aie_emulation::Bitwise(v, v, [](uint32_t x, uint32_t) { return ~x; });
}

// AIE API, Reshaping, select: out[i] = m[i] == 0 ? v1[i] : v2[i]; a scalar on either side counts as broadcast.
template <class T, unsigned N>
vector<T, N> select(const vector<T, N>& v1, const vector<T, N>& v2, const mask<N>& m) {
  static_assert(!aie_emulation::kIsNibble<T>);
  aie_emulation::CountMove(aie_emulation::Issues(v1.bits()));
  vector<T, N> result;
  for (unsigned i = 0; i < N; ++i) result.lanes[i] = m.bits[i] ? v2.lanes[i] : v1.lanes[i];
  return result;
}
template <class T, unsigned N, class S>
  requires aie_emulation::kIsScalarOperand<S>
vector<T, N> select(S a, const vector<T, N>& v, const mask<N>& m) {
  return select(broadcast<T, N>(T(a)), v, m);
}
template <class T, unsigned N, class S>
  requires aie_emulation::kIsScalarOperand<S>
vector<T, N> select(const vector<T, N>& v, S a, const mask<N>& m) {
  return select(v, broadcast<T, N>(T(a)), m);
}

namespace detail {
template <class T, unsigned N, class F>
T Fold(vector<T, N> v, F f) {
  aie_emulation::CountMove(1);  // extract
  for (unsigned half = N / 2; half > 0; half /= 2) {
    if (half * v.type_bits() < 512)
      aie_emulation::CountMove(1);  // shift; halves of 512 bits are registers of their own
    aie_emulation::CountMove(aie_emulation::Issues(half * v.type_bits()) * (std::is_same_v<T, float> ? 3 : 1));
    for (unsigned i = 0; i < half; ++i) v.lanes[i] = f(v.lanes[i], v.lanes[i + half]);
  }
  return v.lanes[0];
}
}  // namespace detail

// AIE API, Reduction, reduce_max, reduce_min: "the element with the largest value", "the smallest". NaN is not
// documented: here an element gives way only to one that compares greater (or not greater), as in max and min.
template <class T, unsigned N>
T reduce_max(const vector<T, N>& v) {
  return detail::Fold(v, [](T x, T y) { return aie_emulation::Comparable(x) < aie_emulation::Comparable(y) ? y : x; });
}
template <class T, unsigned N>
T reduce_min(const vector<T, N>& v) {
  return detail::Fold(v, [](T x, T y) { return aie_emulation::Comparable(x) >= aie_emulation::Comparable(y) ? y : x; });
}

// AIE API, Bits, upshift: "all values upshifted", downshift: "arithmetically downshifted". Rounding and overflow are
// not documented; as detail/aie2/shift.hpp has it, both go through an accumulator (ups, then srs), hence by the
// rounding and saturation registers.
template <class T, unsigned N>
vector<T, N> upshift(const vector<T, N>& v, unsigned shift) {
  static_assert(std::is_integral_v<T>, "shifts are for integers of 8 bits or more");
  using Tag = std::conditional_t<sizeof(T) == 4, acc64, acc32>;
  return accum<Tag, N>(v, int(shift)).template to_vector<T>(0);
}
template <class T, unsigned N>
vector<T, N> downshift(const vector<T, N>& v, unsigned shift) {
  static_assert(std::is_integral_v<T>, "shifts are for integers of 8 bits or more");
  using Tag = std::conditional_t<sizeof(T) == 4, acc64, acc32>;
  return accum<Tag, N>(v, 0).template to_vector<T>(int(shift));
}

}  // namespace aie
