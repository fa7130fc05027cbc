// The Q4NX weight format: byte layout of the file blocks.
//
// A matrix w_NK (row = output, column = input) is cut into blocks of 32 rows x 256 columns, stored row-major over
// (N/32, K/256).  K is padded to 256 and N to 32 with zero scale and zero minimum.  A group is 32 columns of one row.
//
//   bits = 4, 5120 bytes, w = scale * q + min, q in 0..15
//     [0, 512)      bf16 scale, index = g * 32 + r        g = column / 32 in 0..7, r = row in 0..31
//     [512, 1024)   bf16 min, same index
//     [1024, 5120)  byte 1024 + (r / 16) * 2048 + c * 8 + (r % 16) / 2 ; low nibble = even row, high nibble = odd row
//
//   bits = 8, 8704 bytes, w = scale * code, code is int8
//     [0, 512)      bf16 scale, index = g * 32 + r
//     [512, 8704)   byte 512 + (r / 16) * 4096 + c * 16 + r % 16
//
// The Python twin is graph_passes/q4nx.py; tests/shared_facts_test.py compares the two.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ryzen_npu_gemma::q4nx {

inline constexpr int64_t kBlockRows = 32;
inline constexpr int64_t kBlockCols = 256;
inline constexpr int64_t kGroupSize = 32;
inline constexpr int64_t kGroupsPerBlock = kBlockCols / kGroupSize;
inline constexpr int64_t kScaleOffset = 0;
inline constexpr int64_t kMinOffset = 512;      // bits = 4
inline constexpr int64_t kNibbleOffset = 1024;  // bits = 4
inline constexpr int64_t kCodeOffset = 512;     // bits = 8
inline constexpr int64_t kBlockBytes4 = 5120;
inline constexpr int64_t kBlockBytes8 = 8704;

constexpr int64_t BlockBytes(int bits) { return bits == 4 ? kBlockBytes4 : kBlockBytes8; }
constexpr int64_t BlockCount(int64_t N, int64_t K) {
  return ((N + kBlockRows - 1) / kBlockRows) * ((K + kBlockCols - 1) / kBlockCols);
}

}  // namespace ryzen_npu_gemma::q4nx
