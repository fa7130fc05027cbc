// A scalar reading of strips (matmul_nbits.h).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/float16.h"
#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels {

// Of row r of a group: w = scale * (code - zero) + offset.
struct RowParameters {
  float scale;
  float zero;
  float offset;
};

inline float ReadBfloat16(const uint8_t* values, int64_t index) {
  uint16_t h;
  std::memcpy(&h, values + index * 2, sizeof(h));
  return Bfloat16ToFloat(h);
}

inline RowParameters ReadParameters(const NBitsShape& shape, const uint8_t* strip, int64_t g, int64_t r) {
  if (shape.parameters == Parameters::kRounded) {
    int16_t code;
    std::memcpy(&code, strip + kStripHeadBytes + g / 2 * kPairBytes + (g % 2 * kStripRows + r) * 2, sizeof(code));
    return {ReadBfloat16(strip, r) * static_cast<float>(code & ((1 << kScaleBits) - 1)), kCentreCode,
            ReadBfloat16(strip, kStripRows + r) * static_cast<float>(code >> kScaleBits)};
  }
  const uint8_t* group = strip + g * shape.group_bytes();
  return {ReadBfloat16(group, r), 0, shape.bits == 4 ? ReadBfloat16(group, kStripRows + r) : 0};
}

// Column c of row r of a group whose chunks begin at `words`.
inline int ReadCode(int bits, const uint8_t* words, int64_t c, int64_t r) {
  uint32_t word;
  std::memcpy(&word, words + (c * bits / 32 * kStripRows + r) * 4, sizeof(word));
  word >>= c * bits % 32;
  return bits == 4 ? static_cast<int>(word & 15) : static_cast<int8_t>(word);
}

}  // namespace ryzen_npu_gemma::kernels
