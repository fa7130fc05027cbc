// From the file's Q4NX blocks (kernels/q4nx.h) to strips (matmul_nbits.h). A nibble or code moves, nothing is computed.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::kernels {

namespace {

static_assert(std::endian::native == std::endian::little, "the layouts are little-endian");

// Exchanges byte (i, j) with byte (j, i); word i is row i, byte j of it is column j.
void TransposeBytes8x8(uint64_t (&m)[8]) {
  constexpr uint64_t kKeep[3] = {0x00000000ffffffffu, 0x0000ffff0000ffffu, 0x00ff00ff00ff00ffu};
  for (int level = 0, distance = 4; level < 3; ++level, distance /= 2) {
    const int shift = distance * 8;
    for (int i = 0; i < 8; ++i) {
      if (i & distance) continue;
      const uint64_t swapped = ((m[i] >> shift) ^ m[i + distance]) & kKeep[level];
      m[i] ^= swapped << shift;
      m[i + distance] ^= swapped;
    }
  }
}

// The low nibbles of the 8 bytes, side by side.
uint32_t JoinNibbles(uint64_t x) {
  x &= 0x0f0f0f0f0f0f0f0fu;
  x = (x | x >> 4) & 0x00ff00ff00ff00ffu;
  x = (x | x >> 8) & 0x0000ffff0000ffffu;
  return static_cast<uint32_t>(x | x >> 16);
}

// 8 columns of 16 rows: byte b of a column holds rows 2b and 2b + 1.
void PackNibbles(const uint8_t* columns, uint8_t* words) {
  uint64_t pairs[8];
  std::memcpy(pairs, columns, sizeof(pairs));
  TransposeBytes8x8(pairs);
  uint32_t word[kStripRows];
  for (int b = 0; b < 8; ++b) {
    word[2 * b] = JoinNibbles(pairs[b]);
    word[2 * b + 1] = JoinNibbles(pairs[b] >> 4);
  }
  std::memcpy(words, word, sizeof(word));
}

// 4 columns of 16 rows, a byte each.
void PackCodes(const uint8_t* columns, uint8_t* words) {
  for (int64_t r = 0; r < kStripRows; ++r) {
    for (int64_t c = 0; c < 4; ++c) words[r * 4 + c] = columns[c * kStripRows + r];
  }
}

// Rows past N are zero, whatever the file holds there.
void ClearPadding(int64_t rows, int bits, uint8_t* group) {
  const int64_t words = bits == 4 ? 64 : 32;
  for (int64_t r = rows; r < kStripRows; ++r) {
    std::memset(group + r * 2, 0, 2);
    if (bits == 4) std::memset(group + 32 + r * 2, 0, 2);
    for (int64_t chunk = 0; chunk < bits; ++chunk) std::memset(group + words + chunk * 64 + r * 4, 0, 4);
  }
}

}  // namespace

void PackStrips(const NBitsShape& shape, const uint8_t* blocks, int64_t strip_begin, int64_t strip_end,
                uint8_t* packed) {
  const int64_t block_bytes = q4nx::BlockBytes(shape.bits);
  const int64_t blocks_per_row = (shape.K + q4nx::kBlockCols - 1) / q4nx::kBlockCols;
  for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
    const int64_t half = strip % 2;
    const int64_t rows = std::min(kStripRows, shape.N - strip * kStripRows);
    uint8_t* group = packed + strip * shape.strip_bytes();
    for (int64_t g = 0; g < shape.groups(); ++g, group += shape.group_bytes()) {
      const int64_t column_block = g / q4nx::kGroupsPerBlock;
      const int64_t group_in_block = g % q4nx::kGroupsPerBlock;
      const uint8_t* block = blocks + (strip / 2 * blocks_per_row + column_block) * block_bytes;
      const int64_t parameters = (group_in_block * q4nx::kBlockRows + half * kStripRows) * 2;
      const int64_t column = group_in_block * q4nx::kGroupSize;
      std::memcpy(group, block + q4nx::kScaleOffset + parameters, kStripRows * 2);
      if (shape.bits == 4) {
        std::memcpy(group + 32, block + q4nx::kMinOffset + parameters, kStripRows * 2);
        const uint8_t* nibbles = block + q4nx::kNibbleOffset + half * 2048 + column * 8;
        for (int64_t chunk = 0; chunk < 4; ++chunk) PackNibbles(nibbles + chunk * 64, group + 64 + chunk * 64);
      } else {
        const uint8_t* codes = block + q4nx::kCodeOffset + half * 4096 + column * 16;
        for (int64_t chunk = 0; chunk < 8; ++chunk) PackCodes(codes + chunk * 64, group + 32 + chunk * 64);
      }
      if (rows < kStripRows) ClearPadding(rows, shape.bits, group);
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
