// The rotation of quantize_rotated_rows.h by its definition, entry by entry.
#pragma once

#include <bit>
#include <cstdint>

namespace ryzen_npu_gemma::kernels {

// 1, -1, or 0 for columns that are rotated apart: those whose bit 2 differs.
inline double Hadamard(int64_t row, int64_t column) {
  if ((row ^ column) & 4) return 0;
  return std::popcount(static_cast<uint64_t>(row & column & ~4)) % 2 == 0 ? 1 : -1;
}

}  // namespace ryzen_npu_gemma::kernels
