// aie::block_vector<bfp16ebs8, N>: N values in blocks of 8 that share an exponent; 9 bytes a block
// in memory.
#pragma once

#include "kernels/aie_emulation/vector.h"

namespace aie {

// AIE API, Basic Types (Block Vector): bfp16ebs8, 64 or more of the documented 32 to 256 elements.
template <class T, unsigned N>
class block_vector {
  static_assert(std::is_same_v<T, bfp16ebs8> && N % 64 == 0,
                "block vectors of the emulation are bfp16ebs8, 64 values or a multiple");

 public:
  // AIE API, aie::block_vector: elements; blocks, "(exponent, data) tuples"; the bytes that they take in memory.
  using value_type = T;
  static constexpr unsigned size() { return N; }
  static constexpr unsigned block_size() { return 8; }
  static constexpr unsigned blocks() { return N / 8; }
  static constexpr unsigned memory_bytes() { return N / 8 * 9; }

  // AIE API, aie::block_vector: extract copies a region, insert overwrites it, of M elements each.
  template <unsigned M>
  block_vector<T, M> extract(unsigned index) const {
    block_vector<T, M> part;
    for (unsigned b = 0; b < M / 8; ++b) part.exponents[b] = exponents[index * M / 8 + b];
    for (unsigned i = 0; i < M; ++i) part.mantissas[i] = mantissas[index * M + i];
    return part;
  }
  template <unsigned M>
  block_vector& insert(unsigned index, const block_vector<T, M>& part) {
    for (unsigned b = 0; b < M / 8; ++b) exponents[index * M / 8 + b] = part.exponents[b];
    for (unsigned i = 0; i < M; ++i) mantissas[index * M + i] = part.mantissas[i];
    return *this;
  }

  // Emulation: the blocks in memory.
  void load_bytes(const uint8_t* source) {
    for (unsigned b = 0; b < blocks(); ++b) {
      exponents[b] = source[9 * b];
      std::memcpy(&mantissas[8 * b], source + 9 * b + 1, 8);
    }
  }
  void store_bytes(uint8_t* target) const {
    for (unsigned b = 0; b < blocks(); ++b) {
      target[9 * b] = exponents[b];
      std::memcpy(target + 9 * b + 1, &mantissas[8 * b], 8);
    }
  }

  // Emulation: the blocks in parts.
  std::array<uint8_t, N / 8> exponents{};
  std::array<int8_t, N> mantissas{};
  aie_emulation::Origin origin = aie_emulation::Origin::kComputed;
};

}  // namespace aie
