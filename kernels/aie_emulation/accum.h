// aie::accum (accum.hpp): the accumulators, and the conversions between them and vectors (ups widens, srs narrows).
#pragma once

#include "kernels/aie_emulation/block_vector.h"
#include "kernels/aie_emulation/vector.h"

namespace aie {

template <class Tag, unsigned N>
class accum {
 public:
  using value_type = Tag;
  using lane_type = typename aie_emulation::AccumLane<Tag>::type;
  static constexpr bool kFloat = std::is_same_v<Tag, accfloat>;
  static constexpr unsigned size() { return N; }
  static constexpr unsigned accum_bits() { return aie_emulation::kAccumBits<Tag>; }
  static constexpr unsigned bits() { return N * accum_bits(); }
  static constexpr bool is_floating_point() { return kFloat; }

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

  // ups. fp32 lanes are the bits of an fp32 vector, so they enter (also an acc32) unchanged and free; bf16 widens
  // exactly. Integers are shifted up by `shift`.
  template <class T>
  void from_vector(const vector<T, N>& v, int shift = 0) {
    from_vector_sign(v, v.is_signed(), shift);
  }
  template <class T>
  void from_vector_sign(const vector<T, N>& v, bool v_sign, int shift = 0) {
    if constexpr (std::is_same_v<T, float> || (std::is_same_v<T, int32> && std::is_same_v<Tag, acc32>)) {
      static_assert(sizeof(lane_type) == 4, "32-bit lanes enter a 32-bit accumulator");
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
  // bfp16 widens by a multiplication with the identity matrix (detail/aie2p/accum.hpp); exact.
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

  // srs. To fp32 (or acc32 to 32-bit integers) the bits leave unchanged and free; to bf16 and bfp16 by the rounding
  // register; integers are shifted down, rounded and saturated by the registers.
  template <class T>
  vector<T, N> to_vector(int shift = 0) const {
    return to_vector_sign<T>(aie_emulation::kIsSigned<T>, shift);
  }
  template <class T>
  vector<T, N> to_vector_sign(bool v_sign, int shift = 0) const {
    vector<T, N> v;
    if constexpr (sizeof(lane_type) == 4 && (std::is_same_v<T, float> || (!kFloat && aie_emulation::kBits<T> == 32))) {
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
  accum<Tag, M> grow(unsigned index = 0) const {
    accum<Tag, M> whole;
    for (unsigned i = 0; i < N; ++i) whole.lanes[index * N + i] = lanes[i];
    return whole;
  }
  template <unsigned M>
  accum<Tag, M> grow_extract(unsigned index) const {
    if constexpr (M > N)
      return grow<M>();
    else
      return extract<M>(index);
  }
  // Copies between accumulator registers: one move for each 512 bits written.
  template <unsigned M>
  accum<Tag, M> grow_replicate() const {
    accum<Tag, M> whole;
    for (unsigned i = 0; i < M; ++i) whole.lanes[i] = lanes[i % N];
    aie_emulation::CountMove(aie_emulation::Issues(whole.bits() - bits()));
    return whole;
  }
  // The same bits in lanes of another accumulator class of the same width.
  template <class Tag2>
  accum<Tag2, N> cast_to() const {
    static_assert(aie_emulation::kAccumBits<Tag2> == accum_bits());
    accum<Tag2, N> result;
    for (unsigned i = 0; i < N; ++i)
      result.lanes[i] = std::bit_cast<typename aie_emulation::AccumLane<Tag2>::type>(lanes[i]);
    return result;
  }

  std::array<lane_type, N> lanes{};
};

}  // namespace aie
