// Element-wise multiplication and addition, and reductions.
//
// The AIE API documents the formula of each operation, the accumulator it ends in, and that fp32 multiplication "is
// emulated using native bfloat16 multiplications"; not how results are rounded, nor what overflows. UG1603
// (Floating-Point Accuracy, "safe") gives the emulation: three bf16 limbs of each operand, nine products, smallest
// first. Assumed: bf16 products are exact in fp32, every addition rounds once, to nearest even, and flushes subnormals;
// integers wrap at the accumulator's width.
#pragma once

#include "kernels/aie_emulation/accum.h"
#include "kernels/aie_emulation/memory.h"

namespace aie_emulation {

template <class X>
struct Operand {  // a scalar
  using type = X;
  static X At(const X& x, unsigned) { return x; }
};
template <class T, unsigned N>
struct Operand<aie::vector<T, N>> {
  using type = T;
  static T At(const aie::vector<T, N>& x, unsigned i) { return x.lanes[i]; }
};
template <class T, unsigned N>
struct Operand<aie::vector_elem_ref<T, N>> {
  using type = T;
  static T At(const aie::vector_elem_ref<T, N>& x, unsigned) { return x.get(); }
};

template <class X>
constexpr bool kIsScalarOperand = !aie::is_vector_v<X> && !aie::is_accum_v<X>;

// The type that a scalar operand takes beside a vector of T.
template <class T, class X>
using OperandType = std::conditional_t<std::is_same_v<typename Operand<X>::type, T>, T,
                                       std::conditional_t<aie::is_vector_v<X>, typename Operand<X>::type, T>>;

template <class T1, class T2, class Tag>
struct ProductTag {
  static_assert(kIsFloat<T1> == kIsFloat<T2>, "both operands are floating point, or none is");
  static_assert(kIsFloat<T1> || kBits<T1> <= 16, "integer products of the emulation have operands of 16 bits at most");
  using deduced = std::conditional_t<kIsFloat<T1>, accfloat, acc32>;
  using type = std::conditional_t<std::is_same_v<Tag, accauto>, deduced, Tag>;
};

// Instruction counts of one multiplication of N lanes.
template <class T1, class T2>
void CountProduct(unsigned lanes) {
  if constexpr (std::is_same_v<T1, float> && std::is_same_v<T2, float>) {
    const uint64_t n =
        Issues(lanes * 32, 1024);  // of each operand 3 limbs: 3 narrowings, 2 widenings, 2 subtractions; 9 products
    CountStore(6 * n), CountMove(4 * n), CountMultiply(13 * n);
  } else {
    CountMultiply(Issues(lanes, kBits<T1> == 16 && kBits<T2> == 16 && !kIsFloat<T1> ? 32 : 64));
  }
}

struct Limbs {
  float high, middle, low;
  explicit Limbs(float x) {
    const auto round = [](float v) { return float(bfloat16(v)); };
    high = round(x);
    middle = round(Flush(x - high));
    low = round(Flush(x - high - middle));
  }
};

inline float MultiplyAdd(float acc, float a, float b) { return Flush(Flush(acc) + Flush(Flush(a) * Flush(b))); }

inline float MultiplyAddFp32(float acc, float x, float y) {
  if (!std::isfinite(x) || !std::isfinite(y)) return acc + x * y;
  const Limbs a(x), b(y);
  float sum = a.low * b.low;
  sum = MultiplyAdd(sum, a.low, b.middle), sum = MultiplyAdd(sum, a.middle, b.low),
  sum = MultiplyAdd(sum, a.middle, b.middle);
  sum = MultiplyAdd(sum, a.low, b.high), sum = MultiplyAdd(sum, a.high, b.low);
  sum = MultiplyAdd(sum, a.middle, b.high), sum = MultiplyAdd(sum, a.high, b.middle),
  sum = MultiplyAdd(sum, a.high, b.high);
  return Flush(Flush(acc) + sum);
}

// acc + sign * a * b, with acc = 0 for mul.
template <class Tag, unsigned N, class A, class B>
aie::accum<Tag, N> MultiplyAccumulate(const aie::accum<Tag, N>& acc, const A& a, const B& b, int sign) {
  constexpr bool a_is_vector = aie::is_vector_v<A>, b_is_vector = aie::is_vector_v<B>;
  static_assert(a_is_vector || b_is_vector);
  using TA0 = typename Operand<A>::type;
  using TB0 = typename Operand<B>::type;
  using TA = std::conditional_t<a_is_vector, TA0, OperandType<TB0, A>>;
  using TB = std::conditional_t<b_is_vector, TB0, OperandType<TA0, B>>;
  if constexpr (!a_is_vector || !b_is_vector) CountMove(Issues(N * kBits<TA>));  // the scalar's broadcast
  CountProduct<TA, TB>(N);
  aie::accum<Tag, N> result;
  for (unsigned i = 0; i < N; ++i) {
    const TA x = TA(Operand<A>::At(a, i));
    const TB y = TB(Operand<B>::At(b, i));
    if constexpr (kIsFloat<TA>) {
      if constexpr (std::is_same_v<TA, float> && std::is_same_v<TB, float>)
        result.lanes[i] = MultiplyAddFp32(acc.lanes[i], float(sign) * x, y);
      else
        result.lanes[i] = MultiplyAdd(acc.lanes[i], float(sign) * float(x), float(y));
    } else {
      using L = typename AccumLane<Tag>::type;
      const int64_t product = int64_t(sign) * int64_t(x) * int64_t(y);
      result.lanes[i] = L(uint64_t(int64_t(acc.lanes[i])) + uint64_t(product));
    }
  }
  return result;
}

template <class A, class B>
constexpr unsigned LanesOf() {
  if constexpr (aie::is_vector_v<A>)
    return A::size();
  else
    return B::size();
}
template <class A, class B>
constexpr bool kMultipliable =
    (aie::is_vector_v<A> || aie::is_vector_v<B>) && !aie::is_accum_v<A> && !aie::is_accum_v<B>;
template <class A, class B, class Tag>
using MulTag =
    typename ProductTag<std::conditional_t<aie::is_vector_v<A>, typename Operand<A>::type, typename Operand<B>::type>,
                        std::conditional_t<aie::is_vector_v<B>, typename Operand<B>::type, typename Operand<A>::type>,
                        Tag>::type;

template <class Tag>
typename AccumLane<Tag>::type AddLanes(typename AccumLane<Tag>::type a, typename AccumLane<Tag>::type b, int sign) {
  if constexpr (std::is_same_v<Tag, accfloat>)
    return Flush(Flush(a) + float(sign) * Flush(b));
  else
    return typename AccumLane<Tag>::type(uint64_t(int64_t(a)) + uint64_t(int64_t(sign) * int64_t(b)));
}

template <class Tag, unsigned N>
aie::accum<Tag, N> AddAccums(const aie::accum<Tag, N>& a, const aie::accum<Tag, N>& b, int sign) {
  CountMultiply(Issues(a.bits(), 2048));
  aie::accum<Tag, N> result;
  for (unsigned i = 0; i < N; ++i) result.lanes[i] = AddLanes<Tag>(a.lanes[i], b.lanes[i], sign);
  return result;
}

// Floating-point vectors are added in accumulators (detail/aie2/add.hpp), integers in the move slot with wrap-around.
template <class T, unsigned N>
aie::vector<T, N> AddVectors(const aie::vector<T, N>& a, const aie::vector<T, N>& b, int sign) {
  if constexpr (kIsFloat<T>) {
    return AddAccums(aie::accum<accfloat, N>(a), aie::accum<accfloat, N>(b), sign).template to_vector<T>();
  } else {
    static_assert(!kIsNibble<T>, "the core has no 4-bit add");
    CountMove(Issues(a.bits()));
    aie::vector<T, N> result;
    for (unsigned i = 0; i < N; ++i) result.lanes[i] = T(uint32_t(a.lanes[i]) + uint32_t(sign) * uint32_t(b.lanes[i]));
    return result;
  }
}

}  // namespace aie_emulation

namespace aie {

// AIE API, Initialization, broadcast: every element is the value.
template <class T, unsigned N, class S>
vector<T, N> broadcast(S value) {
  aie_emulation::CountMove(aie_emulation::Issues(vector<T, N>::bits()));
  vector<T, N> v;
  v.lanes.fill(T(value));
  return v;
}

// AIE API, Initialization, zeros: a vector or an accumulator of zeros. A zero vector is a broadcast; a zero accumulator
// a vclr of the multiplier's slot for each 2048 bits.
template <class T, unsigned N>
auto zeros() {
  if constexpr (std::is_same_v<T, accfloat> || std::is_same_v<T, acc32> || std::is_same_v<T, acc64>) {
    aie_emulation::CountMultiply(aie_emulation::Issues(accum<T, N>::bits(), 2048));
    return accum<T, N>();
  } else {
    aie_emulation::CountMove(aie_emulation::Issues(vector<T, N>::bits()));
    return vector<T, N>();
  }
}

// AIE API, Arithmetic, mul: out[i] = a[i] * b[i], where a scalar operand counts as broadcast; in the accumulator asked
// for, or the default one, which is acc32 for factors of 4 to 16 bits and accfloat for floating point. negmul: -(a *
// b).
template <class Tag = accauto, class A, class B>
  requires aie_emulation::kMultipliable<A, B>
auto mul(const A& a, const B& b) {
  using R = accum<aie_emulation::MulTag<A, B, Tag>, aie_emulation::LanesOf<A, B>()>;
  return aie_emulation::MultiplyAccumulate(R(), a, b, 1);
}
template <class Tag = accauto, class A, class B>
  requires aie_emulation::kMultipliable<A, B>
auto negmul(const A& a, const B& b) {
  using R = accum<aie_emulation::MulTag<A, B, Tag>, aie_emulation::LanesOf<A, B>()>;
  return aie_emulation::MultiplyAccumulate(R(), a, b, -1);
}

// AIE API, Arithmetic, mac: out[i] = acc[i] + a[i] * b[i]; msc: acc[i] - a[i] * b[i]. The accumulator stays of its
// class.
template <class Tag, unsigned N, class A, class B>
accum<Tag, N> mac(const accum<Tag, N>& acc, const A& a, const B& b) {
  return aie_emulation::MultiplyAccumulate(acc, a, b, 1);
}
template <class Tag, unsigned N, class A, class B>
accum<Tag, N> msc(const accum<Tag, N>& acc, const A& a, const B& b) {
  return aie_emulation::MultiplyAccumulate(acc, a, b, -1);
}

// AIE API, Arithmetic, mul_square: v[i] * v[i]; mac_square: acc[i] + v[i] * v[i].
template <class T, unsigned N>
auto mul_square(const vector<T, N>& v) {
  return mul(v, v);
}
template <class Tag, unsigned N, class T>
auto mac_square(const accum<Tag, N>& acc, const vector<T, N>& v) {
  return mac(acc, v, v);
}

// AIE API, Arithmetic, add, sub: a[i] + b[i], a[i] - b[i]; a scalar, of the vector's type, counts as broadcast.
// Assumed: integers wrap, since the core's vector add is not documented to saturate; bf16 is added in fp32 and rounded
// by the register (detail/aie2/add.hpp goes through accumulators, whose conversion to vectors is documented to).
template <class T, unsigned N>
vector<T, N> add(const vector<T, N>& a, const vector<T, N>& b) {
  return aie_emulation::AddVectors(a, b, 1);
}
template <class T, unsigned N>
vector<T, N> sub(const vector<T, N>& a, const vector<T, N>& b) {
  return aie_emulation::AddVectors(a, b, -1);
}
template <class T, unsigned N, class S>
  requires aie_emulation::kIsScalarOperand<S>
vector<T, N> add(const vector<T, N>& a, S b) {
  return add(a, broadcast<T, N>(T(b)));
}
template <class T, unsigned N, class S>
  requires aie_emulation::kIsScalarOperand<S>
vector<T, N> add(S a, const vector<T, N>& b) {
  return add(broadcast<T, N>(T(a)), b);
}
template <class T, unsigned N, class S>
  requires aie_emulation::kIsScalarOperand<S>
vector<T, N> sub(const vector<T, N>& a, S b) {
  return sub(a, broadcast<T, N>(T(b)));
}
template <class T, unsigned N, class S>
  requires aie_emulation::kIsScalarOperand<S>
vector<T, N> sub(S a, const vector<T, N>& b) {
  return sub(broadcast<T, N>(T(a)), b);
}

// AIE API, Arithmetic, add, sub: acc1[i] + acc2[i] and acc[i] + v[i], and the differences; the vector widens first.
template <class Tag, unsigned N>
accum<Tag, N> add(const accum<Tag, N>& a, const accum<Tag, N>& b) {
  return aie_emulation::AddAccums(a, b, 1);
}
template <class Tag, unsigned N>
accum<Tag, N> sub(const accum<Tag, N>& a, const accum<Tag, N>& b) {
  return aie_emulation::AddAccums(a, b, -1);
}
template <class Tag, unsigned N, class T>
accum<Tag, N> add(const accum<Tag, N>& a, const vector<T, N>& b) {
  return add(a, accum<Tag, N>(b));
}
template <class Tag, unsigned N, class T>
accum<Tag, N> sub(const accum<Tag, N>& a, const vector<T, N>& b) {
  return sub(a, accum<Tag, N>(b));
}

// AIE API, Arithmetic, neg (accumulator): "the sign flipped"; vneg.
template <class Tag, unsigned N>
accum<Tag, N> neg(const accum<Tag, N>& a) {
  aie_emulation::CountMultiply(aie_emulation::Issues(a.bits(), 2048));
  accum<Tag, N> result;
  for (unsigned i = 0; i < N; ++i) result.lanes[i] = -a.lanes[i];
  return result;
}

// AIE API, Arithmetic, neg: "the sign flipped. If the input type is unsigned, the input vector is returned"; abs: "the
// absolute value for each element". Of the smallest integer neither is documented: assumed to wrap to itself.
template <class T, unsigned N>
vector<T, N> neg(const vector<T, N>& v) {
  static_assert(!aie_emulation::kIsNibble<T>, "the core has no 4-bit subtraction");
  if constexpr (!aie_emulation::kIsSigned<T>) return v;
  aie_emulation::CountMove(aie_emulation::Issues(v.bits()));
  vector<T, N> result;
  for (unsigned i = 0; i < N; ++i) {
    if constexpr (std::is_same_v<T, bfloat16>)
      result.lanes[i] = bfloat16::FromBits(v.lanes[i].bits ^ 0x8000);
    else if constexpr (aie_emulation::kIsFloat<T>)
      result.lanes[i] = -v.lanes[i];
    else
      result.lanes[i] = T(0 - uint32_t(v.lanes[i]));
  }
  return result;
}
template <class T, unsigned N>
vector<T, N> abs(const vector<T, N>& v) {
  static_assert(!aie_emulation::kIsNibble<T>, "the core has no 4-bit subtraction");
  if constexpr (!aie_emulation::kIsSigned<T>) return v;
  aie_emulation::CountMove(aie_emulation::Issues(v.bits()));
  vector<T, N> result;
  for (unsigned i = 0; i < N; ++i) {
    if constexpr (std::is_same_v<T, bfloat16>)
      result.lanes[i] = bfloat16::FromBits(v.lanes[i].bits & 0x7fff);
    else if constexpr (aie_emulation::kIsFloat<T>)
      result.lanes[i] = std::fabs(v.lanes[i]);
    else
      result.lanes[i] = v.lanes[i] < 0 ? T(0 - uint32_t(v.lanes[i])) : v.lanes[i];
  }
  return result;
}

// AIE API, Reduction, reduce_add: "sum of the elements"; the order is not documented. As detail/aie2/add_reduce.hpp has
// it: floating point adds parts of 32 lanes in order, then folds halves down to one lane, all in fp32; a bf16 result is
// rounded once, at the end. Assumed: integers wrap at their own width.
template <class T, unsigned N>
T reduce_add(const vector<T, N>& v) {
  if constexpr (aie_emulation::kIsFloat<T>) {
    constexpr unsigned width = std::min(N, 32u);
    accum<accfloat, width> acc(v.template extract<width>(0));
    for (unsigned part = 1; part < N / width; ++part)
      acc = add(acc, accum<accfloat, width>(v.template extract<width>(part)));
    for (unsigned half = width / 2; half > 0; half /= 2) {
      aie_emulation::CountMove(1);      // shift
      aie_emulation::CountMultiply(1);  // add
      for (unsigned i = 0; i < half; ++i)
        acc.lanes[i] = aie_emulation::AddLanes<accfloat>(acc.lanes[i], acc.lanes[i + half], 1);
    }
    aie_emulation::CountMove(1);  // extract
    if constexpr (std::is_same_v<T, bfloat16>) aie_emulation::CountStore(1);
    return aie_emulation::FromFloat<T>(acc.lanes[0]);
  } else {
    aie_emulation::CountMove(aie_emulation::Issues(v.bits()) - 1 +
                             2 * std::bit_width(std::min(N, 512 / v.type_bits()) - 1) + 1);
    uint32_t sum = 0;
    for (T x : v.lanes) sum += uint32_t(x);
    return T(sum);
  }
}

// AIE API, Arithmetic, reduce_add_v: "the sum of each input vector is stored in an element of the output vector", the
// first ones, of 4 vectors at most. The other elements are not documented; zero here.
template <class T, unsigned N, class... V>
vector<T, N> reduce_add_v(const vector<T, N>& first, const V&... rest) {
  static_assert((std::is_same_v<V, vector<T, N>> && ...));
  static_assert(sizeof...(V) < 4, "reduce_add_v takes 4 vectors at most");
  vector<T, N> sums;
  unsigned lane = 0;
  const auto put = [&](const vector<T, N>& v) { sums.lanes[lane++] = reduce_add(v); };
  put(first), (put(rest), ...);
  return sums;
}

}  // namespace aie
