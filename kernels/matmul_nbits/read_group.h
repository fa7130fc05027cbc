// A scalar reading of strips (matmul_nbits.h), one row of a group at a time.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/float16.h"
#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels {

// 32 columns of row r of a strip: w = scale * (code - zero) + offset.
struct GroupRow {
  float scale;
  float zero;
  float offset;
  int code[32];
};

inline float ReadBfloat16(const uint8_t* values, int64_t index) {
  uint16_t h;
  std::memcpy(&h, values + index * 2, sizeof(h));
  return Bfloat16ToFloat(h);
}

inline GroupRow ReadGroup(const NBitsShape& shape, const uint8_t* strip, int64_t g, int64_t r) {
  GroupRow row;
  if (shape.parameters == Parameters::kRounded) {
    int16_t code;
    std::memcpy(&code, strip + kStripHeadBytes + g / 2 * kPairBytes + (g % 2 * kStripRows + r) * 2, sizeof(code));
    row.scale = ReadBfloat16(strip, r) * static_cast<float>(code & ((1 << kScaleBits) - 1));
    row.zero = kCentreCode;
    row.offset = ReadBfloat16(strip, kStripRows + r) * static_cast<float>(code >> kScaleBits);
  } else {
    const uint8_t* group = strip + g * shape.group_bytes();
    row.scale = ReadBfloat16(group, r);
    row.zero = 0;
    row.offset = shape.bits == 4 ? ReadBfloat16(group, kStripRows + r) : 0;
  }
  const uint8_t* words = strip + shape.words_offset(g);
  for (int64_t c = 0; c < 32; ++c) {
    uint32_t word;
    std::memcpy(&word, words + (c * shape.bits / 32 * kStripRows + r) * 4, sizeof(word));
    word >>= c * shape.bits % 32;
    row.code[c] = shape.bits == 4 ? static_cast<int>(word & 15) : static_cast<int8_t>(word);
  }
  return row;
}

}  // namespace ryzen_npu_gemma::kernels
