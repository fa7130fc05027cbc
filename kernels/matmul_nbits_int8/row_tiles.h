// The order in which the kernels go through y: blocks of rows of activations that stay in L2, in a block the strips of
// weights, for a strip or two, which stay in L1, the tiles of a few rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/matmul_nbits/equal_parts.h"
#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"

namespace ryzen_npu_gemma::kernels {

// Calls tile(strip, strips, m, rows) for all strips [strip, strip + strips) of [strip_begin, strip_end), at most
// tile_strips, and rows [m, m + rows), at most tile_rows.
template <typename Tile>
void ForEachTile(const NBitsShape& shape, int64_t M, int64_t strip_begin, int64_t strip_end, int64_t tile_strips,
                 int64_t tile_rows, int64_t block_bytes, Tile tile) {
  const int64_t row_bytes = shape.groups() * static_cast<int64_t>(sizeof(QuantizedGroup));
  const int64_t most_rows = std::max(tile_rows, block_bytes / row_bytes);
  for (int64_t begin = 0, end; begin < M; begin = end) {
    end = begin + NextPart(M - begin, most_rows);
    for (int64_t strip = strip_begin, strips; strip < strip_end; strip += strips) {
      strips = std::min(tile_strips, strip_end - strip);
      for (int64_t m = begin, rows; m < end; m += rows) {
        rows = NextPart(end - m, tile_rows);
        tile(strip, strips, m, rows);
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
