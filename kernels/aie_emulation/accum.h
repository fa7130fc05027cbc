// aie::accum: the accumulators, and the conversions between them and vectors (ups widens, srs narrows).
#pragma once

#include "kernels/aie_emulation/block_vector.h"
#include "kernels/aie_emulation/vector.h"

namespace aie {

// AIE API, Basic Types (Accumulator): elements of a class (integer, floating point) and at least so many bits.
template <class Tag, unsigned N>
class accum {
 public:
  // AIE API, aie::accum: the tag, elements, bits an element and in all.
  using value_type = Tag;
  using lane_type = typename aie_emulation::AccumLane<Tag>::type;
  static constexpr bool kFloat = std::is_same_v<Tag, accfloat>;
  static constexpr unsigned size() { return N; }
  static constexpr unsigned accum_bits() { return aie_emulation::kAccumBits<Tag>; }
  static constexpr unsigned bits() { return N * accum_bits(); }
  static constexpr bool is_floating_point() { return kFloat; }

  // AIE API, aie::accum: the default's contents are "undefined" (zero here); from a vector with an upshift; assigned
  // from a vector, "no upshift is applied".
  accum() = default;
  template <class T>
  explicit accum(const vector<T, N>& v, int shift = 0) {
    from_vector(v, shift);
  }
  template <class T>
  accum& operator=(const vector<T, N>& v) {
    from_vector(v);
    return *this;
  }

  // AIE API, aie::accum, from_vector: the values "after applying the requested upshift" (ups), which is "ignored for
  // floating-point types"; from_vector_sign says if they are signed. What is shifted out of the accumulator is not
  // documented: assumed lost. bf16 widens exactly. 32-bit lanes enter a 32-bit accumulator as they are, and free;
  // accum.hpp requires a shift of 0 there.
  template <class T>
  void from_vector(const vector<T, N>& v, int shift = 0) {
    from_vector_sign(v, v.is_signed(), shift);
  }
  template <class T>
  void from_vector_sign(const vector<T, N>& v, bool v_sign, int shift = 0) {
    if constexpr (std::is_same_v<T, float> || (std::is_same_v<T, int32> && std::is_same_v<Tag, acc32>)) {
      static_assert(sizeof(lane_type) == 4, "32-bit lanes enter a 32-bit accumulator");
      if constexpr (!kFloat)
        aie_emulation::Require(shift == 0, "32-bit lanes enter a 32-bit accumulator without a shift");
      for (unsigned i = 0; i < N; ++i) lanes[i] = std::bit_cast<lane_type>(v.lanes[i]);
      return;
    } else if constexpr (std::is_same_v<T, bfloat16>) {
      static_assert(kFloat, "bf16 widens to accfloat");
      for (unsigned i = 0; i < N; ++i) lanes[i] = float(v.lanes[i]);
    } else if constexpr (aie_emulation::kIsNibble<T>) {  // unpacked first (detail/aie2p/accum.hpp)
      return from_vector_sign(v.template unpack_sign<std::conditional_t<std::is_same_v<T, int4>, int8, uint8>>(v_sign),
                              v_sign, shift);
    } else {
      static_assert(!kFloat && accum_bits() > aie_emulation::kBits<T>, "integers widen to an integer accumulator");
      for (unsigned i = 0; i < N; ++i) {
        int64_t value = int64_t(v.lanes[i]);
        if (!v_sign && value < 0) value += int64_t(1) << aie_emulation::kBits<T>;
        lanes[i] = lane_type(uint64_t(value) << shift);
      }
    }
    if (v.origin != aie_emulation::Origin::kLoaded)
      aie_emulation::CountMove(aie_emulation::Issues(bits(), aie_emulation::kBits<T> == 8 ? 2048 : 1024));
  }

  // AIE API, aie::accum, from a block vector: its values. Assumed exact; counted as accum.hpp makes it, a
  // multiplication with the identity matrix.
  template <class T>
    requires kFloat
  explicit accum(const block_vector<T, N>& v) {
    from_vector(v);
  }
  template <class T>
    requires kFloat
  void from_vector(const block_vector<T, N>& v) {
    aie_emulation::CountMultiply(N / 64);
    for (unsigned i = 0; i < N; ++i)
      lanes[i] = aie_emulation::Flush(float(v.mantissas[i] * aie_emulation::Bfp16Scale(v.exponents[i / 8])));
  }

  // AIE API, aie::accum, to_vector: "applies shift-round-saturate to the elements" (srs); the shift is "ignored for
  // floating-point types"; to_vector_sign says if the result is signed. fp32 to bf16 and bfp16 rounds by the register.
  // fp32 to fp32, and acc32 to 32 bits, leave as they are, and free. For acc32 that differs from the documentation and
  // is what accum.hpp does; a shift, which would be lost there, is refused.
  template <class T>
  vector<T, N> to_vector(int shift = 0) const {
    return to_vector_sign<T>(aie_emulation::kIsSigned<T>, shift);
  }
  template <class T>
  vector<T, N> to_vector_sign(bool v_sign, int shift = 0) const {
    vector<T, N> v;
    if constexpr (sizeof(lane_type) == 4 && (std::is_same_v<T, float> || (!kFloat && aie_emulation::kBits<T> == 32))) {
      if constexpr (!kFloat)
        aie_emulation::Require(shift == 0, "a 32-bit accumulator leaves as 32-bit lanes without a shift");
      for (unsigned i = 0; i < N; ++i) v.lanes[i] = std::bit_cast<T>(lanes[i]);
      return v;
    } else if constexpr (kFloat) {
      static_assert(std::is_same_v<T, bfloat16>, "accfloat leaves as float, bfloat16 or bfp16ebs8");
      if (const aie::rounding_mode mode = get_rounding(); mode == rounding_mode::conv_even)
        for (unsigned i = 0; i < N; ++i) v.lanes[i].bits = aie_emulation::ToBfloat16BitsNearestEven(lanes[i]);
      else
        for (unsigned i = 0; i < N; ++i) v.lanes[i].bits = aie_emulation::ToBfloat16Bits(lanes[i], mode);
    } else {
      static_assert(std::is_integral_v<T>, "integer accumulators leave as integers (or as the bits of a float)");
      for (unsigned i = 0; i < N; ++i)
        v.lanes[i] = aie_emulation::ShiftRoundSaturate<T>(int64_t(lanes[i]), shift, v_sign);
    }
    aie_emulation::CountStore(aie_emulation::Issues(bits(), aie_emulation::kBits<T> == 8 ? 2048 : 1024));
    v.origin = aie_emulation::Origin::kNarrowed;
    return v;
  }
  template <class T>
    requires std::is_same_v<T, bfp16ebs8>
  block_vector<T, N> to_vector(int = 0) const {
    static_assert(kFloat && N % 64 == 0);
    block_vector<T, N> v;
    for (unsigned b = 0; b < N / 8; ++b)
      aie_emulation::ToBfp16Block(&lanes[8 * b], &v.exponents[b], &v.mantissas[8 * b]);
    aie_emulation::CountStore(N / 64);
    v.origin = aie_emulation::Origin::kNarrowed;
    return v;
  }

  // AIE API, aie::accum: "a vector of the same type" from an fp32 accumulator, without a call (accum.hpp: 32 lanes at
  // most).
  operator vector<float, N>() const
    requires(kFloat && N <= 32)
  {
    return to_vector<float>();
  }

  // AIE API, aie::accum: extract copies the index-th part of M elements, insert overwrites it; grow puts the
  // accumulator into a larger one whose other elements are "undefined" (zero here), grow_extract does the one that M
  // asks for.
  template <unsigned M>
  accum<Tag, M> extract(unsigned index) const {
    accum<Tag, M> part;
    for (unsigned i = 0; i < M; ++i) part.lanes[i] = lanes[index * M + i];
    return part;
  }
  template <unsigned M>
  accum& insert(unsigned index, const accum<Tag, M>& part) {
    for (unsigned i = 0; i < M; ++i) lanes[index * M + i] = part.lanes[i];
    return *this;
  }
  template <unsigned M>
  accum<Tag, M> grow() const {
    accum<Tag, M> whole;
    for (unsigned i = 0; i < N; ++i) whole.lanes[i] = lanes[i];
    return whole;
  }
  template <unsigned M>
  accum<Tag, M> grow_extract(unsigned index) const {
    if constexpr (M > N)
      return grow<M>();
    else
      return extract<M>(index);
  }

  // AIE API, aie::accum, grow_replicate: "replicated as many times as required to fill the output". One move for each
  // 512 bits written.
  template <unsigned M>
  accum<Tag, M> grow_replicate() const {
    accum<Tag, M> whole;
    for (unsigned i = 0; i < M; ++i) whole.lanes[i] = lanes[i % N];
    aie_emulation::CountMove(aie_emulation::Issues(whole.bits() - bits()));
    return whole;
  }

  // AIE API, aie::accum, cast_to: reinterpreted as another accumulator; here of the same width an element.
  template <class Tag2>
  accum<Tag2, N> cast_to() const {
    static_assert(aie_emulation::kAccumBits<Tag2> == accum_bits());
    accum<Tag2, N> result;
    for (unsigned i = 0; i < N; ++i)
      result.lanes[i] = std::bit_cast<typename aie_emulation::AccumLane<Tag2>::type>(lanes[i]);
    return result;
  }

  // Emulation: the lanes.
  std::array<lane_type, N> lanes{};
};

}  // namespace aie
