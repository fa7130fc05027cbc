// From the file's Q4NX blocks (kernels/q4nx.h) to strips (matmul_nbits.h). A nibble or code moves, nothing is computed
// but rounded parameters (round_parameters.h).
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/matmul_nbits/round_parameters.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::kernels {

namespace {

static_assert(std::endian::native == std::endian::little, "the layouts are little-endian");

// 16 bytes, one of each of a strip's rows where nothing else is said. The compilers' own vectors: any processor's unit
// for 16 bytes (SSE2, NEON) does this as fast as memory takes it.
using Bytes = uint8_t __attribute__((vector_size(16)));
using Pairs = uint16_t __attribute__((vector_size(16)));
static_assert(sizeof(Bytes) == kStripRows);

Bytes Load(const uint8_t* from) {
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof(bytes));
  return bytes;
}

Bytes InterleaveLow(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
Bytes InterleaveHigh(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// Row r's word is byte r of each of the four.
void StoreWords(const Bytes (&column)[4], uint8_t* words) {
  const auto store = [words](int quarter, Pairs a, Pairs b) {
    const Pairs low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    const Pairs high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    std::memcpy(words + quarter * 32, &low, sizeof(low));
    std::memcpy(words + quarter * 32 + 16, &high, sizeof(high));
  };
  store(0, Pairs(InterleaveLow(column[0], column[1])), Pairs(InterleaveLow(column[2], column[3])));
  store(1, Pairs(InterleaveHigh(column[0], column[1])), Pairs(InterleaveHigh(column[2], column[3])));
}

// 8 columns of 16 rows: byte b of a column holds rows 2b and 2b + 1, so 16 bytes are two columns.
void PackNibbles(const uint8_t* columns, uint8_t* words) {
  Bytes pair[4];  // a row's nibbles of columns 2i and 2i + 1
  for (int i = 0; i < 4; ++i) {
    const Bytes both = Load(columns + i * 16);
    const Bytes even = both & 0x0f, odd = both >> 4;  // rows
    pair[i] = InterleaveLow(even, odd) | InterleaveHigh(even, odd) << 4;
  }
  StoreWords(pair, words);
}

// 4 columns of 16 rows, a byte each.
void PackCodes(const uint8_t* columns, uint8_t* words) {
  StoreWords({Load(columns), Load(columns + 16), Load(columns + 32), Load(columns + 48)}, words);
}

// Copies a group's scale and minimum of the 16 rows at `offset` of a block's.
void CopyParameters(const uint8_t* block, int bits, int64_t offset, uint8_t* group) {
  std::memcpy(group, block + q4nx::kScaleOffset + offset, kStripRows * 2);
  if (bits == 4) std::memcpy(group + 32, block + q4nx::kMinOffset + offset, kStripRows * 2);
}

// Rows past N are zero, whatever the file holds there.
void ClearParameters(int64_t rows, int bits, uint8_t* group) {
  for (int64_t r = rows; r < kStripRows; ++r) {
    std::memset(group + r * 2, 0, 2);
    if (bits == 4) std::memset(group + 32 + r * 2, 0, 2);
  }
}

// q becomes 15 - q in rows whose scale is below zero.  scales: bf16, of the 16 rows
void MakeScalesPositive(const uint8_t* scales, uint8_t* words) {
  for (int64_t r = 0; r < kStripRows; ++r) {
    if ((scales[r * 2 + 1] & 0x80) == 0) continue;
    for (int64_t chunk = 0; chunk < 4; ++chunk) {
      for (int64_t byte = 0; byte < 4; ++byte) words[chunk * 64 + r * 4 + byte] ^= 0xff;
    }
  }
}

void ClearWords(int64_t rows, int bits, uint8_t* words) {
  for (int64_t chunk = 0; chunk < bits; ++chunk) {
    for (int64_t r = rows; r < kStripRows; ++r) std::memset(words + chunk * 64 + r * 4, 0, 4);
  }
}

}  // namespace

void PackStrips(const NBitsShape& shape, const uint8_t* blocks, int64_t strip_begin, int64_t strip_end,
                uint8_t* packed) {
  const int64_t block_bytes = q4nx::BlockBytes(shape.bits);
  const int64_t blocks_per_row = (shape.K + q4nx::kBlockCols - 1) / q4nx::kBlockCols;
  for (int64_t n = strip_begin; n < strip_end; ++n) {
    const int64_t half = n % 2;
    const int64_t rows = std::min(kStripRows, shape.N - n * kStripRows);
    const uint8_t* row_blocks = blocks + n / 2 * blocks_per_row * block_bytes;
    uint8_t* strip = packed + n * shape.strip_bytes();
    if (shape.parameters == Parameters::kRounded) RoundParameters(shape, row_blocks, half, rows, strip);
    for (int64_t g = 0; g < shape.groups(); ++g) {
      const int64_t group_in_block = g % q4nx::kGroupsPerBlock;
      const uint8_t* block = row_blocks + g / q4nx::kGroupsPerBlock * block_bytes;
      const int64_t parameters = (group_in_block * q4nx::kBlockRows + half * kStripRows) * 2;
      if (shape.parameters == Parameters::kBfloat16) {
        uint8_t* group = strip + g * shape.group_bytes();
        CopyParameters(block, shape.bits, parameters, group);
        ClearParameters(rows, shape.bits, group);
      }
      const int64_t column = group_in_block * q4nx::kGroupSize;
      uint8_t* words = strip + shape.words_offset(g);
      if (shape.bits == 4) {
        const uint8_t* nibbles = block + q4nx::kNibbleOffset + half * 2048 + column * 8;
        for (int64_t chunk = 0; chunk < 4; ++chunk) PackNibbles(nibbles + chunk * 64, words + chunk * 64);
      } else {
        const uint8_t* codes = block + q4nx::kCodeOffset + half * 4096 + column * 16;
        for (int64_t chunk = 0; chunk < 8; ++chunk) PackCodes(codes + chunk * 64, words + chunk * 64);
      }
      if (shape.parameters == Parameters::kRounded) MakeScalesPositive(block + q4nx::kScaleOffset + parameters, words);
      ClearWords(rows, shape.bits, words);
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
