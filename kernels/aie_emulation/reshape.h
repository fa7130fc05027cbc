// Moving lanes about: concat, shuffles, interleave, filter, transpose, casts.
// One shuffle instruction reads two 512-bit registers and writes one.
#pragma once

#include "kernels/aie_emulation/accum.h"

namespace aie {

// AIE API, Initialization, concat: the contents of all, vectors or accumulators of one type and size, the first lowest.
template <class T, unsigned N, class... V>
auto concat(const vector<T, N>& first, const V&... rest) {
  static_assert((std::is_same_v<V, vector<T, N>> && ...), "concat joins vectors of one type and size");
  constexpr unsigned parts = sizeof...(V) + 1;
  vector<T, N * parts> result;
  unsigned part = 0;
  const auto put = [&](const vector<T, N>& v) {
    for (unsigned i = 0; i < N; ++i) result.lanes[part * N + i] = v.lanes[i];
    ++part;
  };
  put(first), (put(rest), ...);
  result.origin = first.origin;
  if (first.bits() < 256) aie_emulation::CountMove(parts - 1);  // sub-registers from 256 bits on, as in insert
  return result;
}
template <class Tag, unsigned N, class... A>
auto concat(const accum<Tag, N>& first, const A&... rest)
  requires(is_accum_v<A> && ...)
{
  constexpr unsigned parts = sizeof...(A) + 1;
  accum<Tag, N * parts> result;
  unsigned part = 0;
  const auto put = [&](const accum<Tag, N>& a) { result.insert(part++, a); };
  put(first), (put(rest), ...);
  return result;
}

// AIE API, Vector and Accumulator Conversions, vector_cast: reinterpreted, as vector::cast_to; unpack: "the next larger
// integer datatype"; pack: "the next smaller"; to_vector: as accum::to_vector.
template <class D, class T, unsigned N>
auto vector_cast(const vector<T, N>& v) {
  return v.template cast_to<D>();
}
template <class T, unsigned N>
auto unpack(const vector<T, N>& v) {
  return v.unpack();
}
template <class D, class T, unsigned N>
auto unpack(const vector<T, N>& v) {
  return v.template unpack<D>();
}
template <class D, class T, unsigned N>
auto pack(const vector<T, N>& v) {
  return v.template pack<D>();
}
template <class T, unsigned N>
auto pack(const vector<T, N>& v) {
  if constexpr (std::is_same_v<T, int8>)
    return v.template pack<int4>();
  else if constexpr (std::is_same_v<T, uint8>)
    return v.template pack<uint4>();
  else if constexpr (std::is_same_v<T, int16>)
    return v.template pack<int8>();
  else if constexpr (std::is_same_v<T, uint16>)
    return v.template pack<uint8>();
  else if constexpr (std::is_same_v<T, int32>)
    return v.template pack<int16>();
  else
    return v.template pack<uint16>();
}
template <class T, class Tag, unsigned N>
auto to_vector(const accum<Tag, N>& a, int shift = 0) {
  return a.template to_vector<T>(shift);
}

namespace detail {
// result[i] = source(i), at one shuffle for each 512 bits written.
template <class T, unsigned N, class F>
vector<T, N> Permute(F source) {
  aie_emulation::CountMove(aie_emulation::Issues(vector<T, N>::bits()));
  vector<T, N> result;
  for (unsigned i = 0; i < N; ++i) result.lanes[i] = source(i);
  return result;
}
}  // namespace detail

// AIE API, Reshaping, shuffle_up: out[i + n] = in[i], shuffle_down: out[i] = in[i + n]; "new elements are undefined"
// (zero here).
template <class T, unsigned N>
vector<T, N> shuffle_up(const vector<T, N>& v, unsigned n) {
  return detail::Permute<T, N>([&](unsigned i) { return i >= n ? v.lanes[i - n] : T(0); });
}
template <class T, unsigned N>
vector<T, N> shuffle_down(const vector<T, N>& v, unsigned n) {
  return detail::Permute<T, N>([&](unsigned i) { return i + n < N ? v.lanes[i + n] : T(0); });
}

// AIE API, Reshaping, shuffle_up_rotate, shuffle_down_rotate: the same, "elements wrap around".
template <class T, unsigned N>
vector<T, N> shuffle_up_rotate(const vector<T, N>& v, unsigned n) {
  return detail::Permute<T, N>([&](unsigned i) { return v.lanes[(i + N - n) % N]; });
}
template <class T, unsigned N>
vector<T, N> shuffle_down_rotate(const vector<T, N>& v, unsigned n) {
  return detail::Permute<T, N>([&](unsigned i) { return v.lanes[(i + n) % N]; });
}

// AIE API, Reshaping, shuffle_up_replicate: new elements are copies of the first element, shuffle_down_replicate: of
// the last.
template <class T, unsigned N>
vector<T, N> shuffle_up_replicate(const vector<T, N>& v, unsigned n) {
  return detail::Permute<T, N>([&](unsigned i) { return v.lanes[i >= n ? i - n : 0]; });
}
template <class T, unsigned N>
vector<T, N> shuffle_down_replicate(const vector<T, N>& v, unsigned n) {
  return detail::Permute<T, N>([&](unsigned i) { return v.lanes[i + n < N ? i + n : N - 1]; });
}

// AIE API, Reshaping, shuffle_up_fill: new elements are the last n of fill, shuffle_down_fill: the first n.
template <class T, unsigned N>
vector<T, N> shuffle_up_fill(const vector<T, N>& v, const vector<T, N>& fill, unsigned n) {
  return detail::Permute<T, N>([&](unsigned i) { return i >= n ? v.lanes[i - n] : fill.lanes[i + N - n]; });
}
template <class T, unsigned N>
vector<T, N> shuffle_down_fill(const vector<T, N>& v, const vector<T, N>& fill, unsigned n) {
  return detail::Permute<T, N>([&](unsigned i) { return i + n < N ? v.lanes[i + n] : fill.lanes[i + n - N]; });
}

// AIE API, Reshaping, reverse: out[i] = in[N - i - 1].
template <class T, unsigned N>
vector<T, N> reverse(const vector<T, N>& v) {
  aie_emulation::CountMove(
      aie_emulation::Issues(v.bits()));  // two shuffles for each 512 bits (detail/aie2/reverse.hpp)
  return detail::Permute<T, N>([&](unsigned i) { return v.lanes[N - 1 - i]; });
}

// AIE API, Reshaping, interleave_zip: { v[0:c], w[0:c], v[c:2c], w[c:2c], ... }, in two halves.
template <class T, unsigned N>
std::pair<vector<T, N>, vector<T, N>> interleave_zip(const vector<T, N>& v, const vector<T, N>& w, unsigned chunk) {
  const auto at = [&](unsigned i) {
    const unsigned c = i / chunk, lane = c / 2 * chunk + i % chunk;
    return c % 2 ? w.lanes[lane] : v.lanes[lane];
  };
  if (v.bits() < 512) {  // both halves are one shuffle
    vector<T, 2 * N> both = detail::Permute<T, 2 * N>(at);
    return {both.template extract<N>(0), both.template extract<N>(1)};
  }
  return {detail::Permute<T, N>(at), detail::Permute<T, N>([&](unsigned i) { return at(N + i); })};
}

// AIE API, Reshaping, interleave_unzip: { v[0:c], v[2c:3c], ..., w[0:c], w[2c:3c], ... } and { v[c:2c], v[3c:4c], ...,
// w[c:2c], ... }.
template <class T, unsigned N>
std::pair<vector<T, N>, vector<T, N>> interleave_unzip(const vector<T, N>& v, const vector<T, N>& w, unsigned chunk) {
  const auto at = [&](unsigned i, unsigned odd) {
    const unsigned lane = (i / chunk * 2 + odd) * chunk + i % chunk;
    return lane < N ? v.lanes[lane] : w.lanes[lane - N];
  };
  return {detail::Permute<T, N>([&](unsigned i) { return at(i, 0); }),
          detail::Permute<T, N>([&](unsigned i) { return at(i, 1); })};
}

// AIE API, Reshaping, filter_even: { v[0:c], v[2c:3c], ... }; filter_odd: { v[c:2c], v[3c:4c], ... }.
template <class T, unsigned N>
vector<T, N / 2> filter_even(const vector<T, N>& v, unsigned chunk = 1) {
  return detail::Permute<T, N / 2>([&](unsigned i) { return v.lanes[i / chunk * 2 * chunk + i % chunk]; });
}
template <class T, unsigned N>
vector<T, N / 2> filter_odd(const vector<T, N>& v, unsigned chunk = 1) {
  return detail::Permute<T, N / 2>([&](unsigned i) { return v.lanes[(i / chunk * 2 + 1) * chunk + i % chunk]; });
}

namespace detail {
// Shuffles beyond one for each register written (from the tables of shuffle modes in detail/aie2/transpose.hpp).
template <class T, unsigned N>
unsigned ExtraTransposeShuffles(unsigned rows) {
  constexpr unsigned bits = aie_emulation::kBits<T>;
  if (bits == 8 && N == 128) return rows == 2 || rows == 64 ? 0 : 2;
  if (bits == 8 && N <= 64) return N == 16 || rows == 2 || rows == N / 2 ? 1 : 0;
  if (bits == 32 && N == 8) return 1;
  if (bits == 32 && N == 4) return 2;
  return 0;
}
}  // namespace detail

// AIE API, Reshaping, transpose: a row-major matrix [rows][columns], "ordered as the transpose".
template <class T, unsigned N>
vector<T, N> transpose(const vector<T, N>& v, unsigned rows, unsigned columns) {
  static_assert(!aie_emulation::kIsNibble<T> && v.bits() <= 1024,
                "the core shuffles up to 1024 bits of 8-bit lanes and wider");
  aie_emulation::CountMove(detail::ExtraTransposeShuffles<T, N>(rows));
  return detail::Permute<T, N>([&](unsigned i) { return v.lanes[i % rows * columns + i / rows]; });
}

}  // namespace aie
