// aie::vector and aie::mask: lanes in an array, one a lane (sub-byte lanes too; they are packed only in memory and in
// casts).
#pragma once

#include <array>
#include <tuple>
#include <utility>

#include "kernels/aie_emulation/number_formats.h"

namespace aie {

template <class Tag, unsigned N>
class accum;
template <class T, unsigned N>
class vector;

// AIE API, aie::vector_elem_ref: "a proxy to the actual element" of a vector: read as a scalar operand of an operation,
// or overwritten.
template <class T, unsigned N>
class vector_elem_ref {
 public:
  vector_elem_ref(vector<T, N>& parent, unsigned index) : parent_(parent), index_(index) {}
  operator T() const { return parent_.get(index_); }
  T get() const { return parent_.get(index_); }
  vector_elem_ref& operator=(T value) {
    parent_.set(value, index_);
    return *this;
  }

 private:
  vector<T, N>& parent_;
  unsigned index_;
};

// AIE API, Basic Types (Vector): elements of one type in registers; any number of native vectors of 128 to 1024 bits.
template <class T, unsigned N>
class vector {
  static_assert(aie_emulation::kIsElement<T>, "element type that the emulation does not have");
  static_assert((N & (N - 1)) == 0 && N * aie_emulation::kBits<T> >= 64,
                "vectors have 64 bits or more (128 on the core)");

 public:
  // AIE API, aie::vector: the element type, and sizes in elements, bits and bytes.
  using value_type = T;
  static constexpr unsigned size() { return N; }
  static constexpr unsigned type_bits() { return aie_emulation::kBits<T>; }
  static constexpr unsigned bits() { return N * type_bits(); }
  static constexpr unsigned bytes() { return bits() / 8; }
  static constexpr bool is_signed() { return aie_emulation::kIsSigned<T>; }
  static constexpr bool is_floating_point() { return aie_emulation::kIsFloat<T>; }

  // AIE API, Basic Type Initialization: contents "are undefined when default constructed" (zero here); aie::vector:
  // from a list of values.
  vector() = default;
  template <class... V>
  explicit vector(T first, V... rest)
    requires(sizeof...(V) + 1 == N)
      : lanes{first, T(rest)...} {}

  // AIE API, aie::vector: get, set and operator[] read or update the element at an index.
  T get(unsigned index) const { return lanes[index]; }  // vextract; fused into the broadcast that uses it
  void set(T value, unsigned index) {                   // vinsert
    aie_emulation::CountMove(1);
    lanes[index] = value;
    origin = aie_emulation::Origin::kComputed;
    converted_a = converted_b = false;
  }
  T operator[](unsigned index) const { return lanes[index]; }
  vector_elem_ref<T, N> operator[](unsigned index) { return {*this, index}; }

  // AIE API, aie::vector: extract copies the index-th part of M elements, insert overwrites it; grow puts the vector
  // into a larger one whose other elements are "undefined" (zero here), grow_extract does the one that M asks for
  // (growing at index 0, as vector.hpp does; its page says at the index). Parts of 256 bits and more are sub-registers:
  // reading and writing them is register renaming, and free.
  template <unsigned M>
  vector<T, M> extract(unsigned index) const {
    static_assert(M <= N);
    vector<T, M> part;
    for (unsigned i = 0; i < M; ++i) part.lanes[i] = lanes[index * M + i];
    part.origin = origin;
    if (part.bits() < 256 && M < N) aie_emulation::CountMove(1);
    return part;
  }
  template <unsigned M>
  vector& insert(unsigned index, const vector<T, M>& part) {
    static_assert(M <= N);
    for (unsigned i = 0; i < M; ++i) lanes[index * M + i] = part.lanes[i];
    origin = part.origin;
    converted_a = converted_b = false;
    if (part.bits() < 256 && M < N) aie_emulation::CountMove(1);
    return *this;
  }
  template <unsigned M>
  vector<T, M> grow(unsigned index = 0) const {
    static_assert(M >= N);
    vector<T, M> whole;
    for (unsigned i = 0; i < N; ++i) whole.lanes[index * N + i] = lanes[i];
    whole.origin = origin;
    return whole;
  }
  template <unsigned M>
  vector<T, M> grow_extract(unsigned index) const {
    if constexpr (M > N)
      return grow<M>();
    else
      return extract<M>(index);
  }

  // AIE API, aie::vector, grow_replicate: "replicated as many times as required to fill the output". A 256-bit vector
  // is repeated by one shuffle, what is above 512 bits by one move for each 512.
  template <unsigned M>
  vector<T, M> grow_replicate() const {
    vector<T, M> whole;
    for (unsigned i = 0; i < M; ++i) whole.lanes[i] = lanes[i % N];
    if constexpr (M > N) aie_emulation::CountMove((bits() < 512 ? 1 : 0) + aie_emulation::Issues(whole.bits()) - 1);
    return whole;
  }

  // AIE API, aie::vector, split: a std::tuple of the parts of M elements.
  template <unsigned M>
  auto split() const {
    return [this]<std::size_t... I>(std::index_sequence<I...>) {
      return std::make_tuple(extract<M>(I)...);
    }(std::make_index_sequence<N / M>{});
  }

  // AIE API, Vector and Accumulator Conversions, cast_to: reinterpreted with "the same total size"; the order of lanes
  // is that of memory, low first.
  template <class D>
  auto cast_to() const {
    constexpr unsigned M = bits() / aie_emulation::kBits<D>;
    uint8_t buffer[bytes()];
    store_bytes(buffer);
    vector<D, M> result;
    result.load_bytes(buffer);
    result.origin = origin;
    return result;
  }

  // AIE API, aie::vector, unpack: every element "in a wider type", of twice the bits; unpack_sign says at run time if
  // they are signed. pack: "in a narrower type", of half the bits. What pack does with a value that does not fit is not
  // documented; assumed: the saturation register decides, as in srs. unpack takes the ldb slot, or rides on the load;
  // pack takes the st slot.
  template <class D>
  vector<D, N> unpack_sign(bool v_sign) const {
    static_assert(aie_emulation::kBits<D> == 2 * type_bits() && !is_floating_point(),
                  "unpack doubles the width of integers");
    if (origin != aie_emulation::Origin::kLoaded) aie_emulation::CountLoad(aie_emulation::Issues(bits()));
    vector<D, N> result;
    for (unsigned i = 0; i < N; ++i) {
      int64_t value = int64_t(int(lanes[i]));
      if (!v_sign && value < 0) value += int64_t(1) << type_bits();
      if (v_sign && value >= int64_t(1) << (type_bits() - 1)) value -= int64_t(1) << type_bits();
      result.lanes[i] = D(value);
    }
    return result;
  }
  template <class D>
  vector<D, N> unpack() const {
    return unpack_sign<D>(is_signed());
  }
  auto unpack() const {
    if constexpr (std::is_same_v<T, int4>)
      return unpack<int8>();
    else if constexpr (std::is_same_v<T, uint4>)
      return unpack<uint8>();
    else if constexpr (std::is_same_v<T, int8>)
      return unpack<int16>();
    else if constexpr (std::is_same_v<T, uint8>)
      return unpack<uint16>();
    else if constexpr (std::is_same_v<T, int16>)
      return unpack<int32>();
    else
      return unpack<uint32>();
  }
  template <class D>
  vector<D, N> pack() const {
    static_assert(2 * aie_emulation::kBits<D> == type_bits() && !is_floating_point(),
                  "pack halves the width of integers");
    aie_emulation::CountStore(aie_emulation::Issues(bits(), 1024));
    vector<D, N> result;
    for (unsigned i = 0; i < N; ++i) result.lanes[i] = aie_emulation::ShiftRoundSaturate<D>(int64_t(int(lanes[i])), 0);
    result.origin = aie_emulation::Origin::kNarrowed;
    return result;
  }

  // Emulation: the lanes in memory.
  void load_bytes(const uint8_t* source) {
    if constexpr (aie_emulation::kIsNibble<T>) {
      for (unsigned i = 0; i < N / 2; ++i) lanes[2 * i] = T(source[i] & 15), lanes[2 * i + 1] = T(source[i] >> 4);
    } else {
      std::memcpy(lanes.data(), source, bytes());
    }
  }
  void store_bytes(uint8_t* target) const {
    if constexpr (aie_emulation::kIsNibble<T>) {
      for (unsigned i = 0; i < N; i += 2) target[i / 2] = uint8_t((lanes[i] & 15) | (lanes[i + 1] & 15) << 4);
    } else {
      std::memcpy(target, lanes.data(), bytes());
    }
  }

  // Emulation: the lanes, and what the counters need to know of them.
  std::array<T, N> lanes{};
  aie_emulation::Origin origin = aie_emulation::Origin::kComputed;
  // Matrix operands are converted once, however many multiplications use the register: set by the first, as A and as B.
  mutable bool converted_a = false, converted_b = false;
};

// Emulation: which kind of operand is it? (The API's concepts aie::Vector and aie::Accum.)
template <class T>
constexpr bool is_vector_v = false;
template <class T, unsigned N>
constexpr bool is_vector_v<vector<T, N>> = true;
template <class T>
constexpr bool is_accum_v = false;
template <class Tag, unsigned N>
constexpr bool is_accum_v<accum<Tag, N>> = true;

// AIE API, aie::mask: "a collection of values that can be 0 or 1", one an element.
template <unsigned N>
class mask {
 public:
  static constexpr unsigned size() { return N; }
  mask() = default;

  // AIE API, aie::mask, from_uint32, from_uint64: "each bit in the input words" is an element, the low bit the first.
  static mask from_uint32(uint32_t low, uint32_t high = 0)
    requires(N <= 64)
  {
    return from_uint64(uint64_t(high) << 32 | low);
  }
  static mask from_uint64(uint64_t bits)
    requires(N <= 64)
  {
    mask m;
    for (unsigned i = 0; i < N; ++i) m.bits[i] = bits >> i & 1;
    return m;
  }

  // AIE API, aie::mask: test, set (to 1), clear (to 0); empty: all are 0; full: all are 1; count: how many are 1.
  bool test(unsigned index) const { return bits[index]; }
  void set(unsigned index) { bits[index] = true; }
  void clear(unsigned index) { bits[index] = false; }
  bool empty() const { return count() == 0; }
  bool full() const { return count() == N; }
  unsigned count() const {
    unsigned n = 0;
    for (bool b : bits) n += b;
    return n;
  }

  // AIE API, aie::mask: negation of all elements; two masks merged by and, or.
  mask operator~() const {
    return combine(*this, [](bool a, bool) { return !a; });
  }
  mask operator&(const mask& o) const {
    return combine(o, [](bool a, bool b) { return a && b; });
  }
  mask operator|(const mask& o) const {
    return combine(o, [](bool a, bool b) { return a || b; });
  }

  // Emulation: a bool an element.
  std::array<bool, N> bits{};

 private:
  template <class F>
  mask combine(const mask& o, F f) const {
    mask m;
    for (unsigned i = 0; i < N; ++i) m.bits[i] = f(bits[i], o.bits[i]);
    return m;
  }
};

}  // namespace aie
