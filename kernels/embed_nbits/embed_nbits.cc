#include "kernels/embed_nbits/embed_nbits.h"

#include <cstring>

#include "kernels/float16.h"

namespace ryzen_npu_gemma::kernels {

namespace {

float ReadBfloat16(const uint8_t* values, int64_t index) {
  uint16_t h;
  std::memcpy(&h, values + index * 2, sizeof(h));
  return Bfloat16ToFloat(h);
}

uint32_t ReadWord(const uint8_t* words, int64_t index) {
  uint32_t word;
  std::memcpy(&word, words + index * 4, sizeof(word));
  return word;
}

}  // namespace

void EmbedRow(const NBitsShape& shape, const uint8_t* packed, int64_t row, float scale, float* y) {
  const uint8_t* group = packed + row / kStripRows * shape.strip_bytes();
  const int64_t r = row % kStripRows;
  for (int64_t k = 0; k < shape.K; k += 32, group += shape.group_bytes()) {
    const float group_scale = ReadBfloat16(group, r);
    if (shape.bits == 4) {
      const float group_min = ReadBfloat16(group + 32, r);
      for (int64_t c = 0; c < 32; ++c) {
        const uint32_t q = (ReadWord(group + 64, c / 8 * kStripRows + r) >> (c % 8 * 4)) & 15;
        y[k + c] = scale * (group_scale * static_cast<float>(q) + group_min);
      }
    } else {
      for (int64_t c = 0; c < 32; ++c) {
        const uint32_t code = ReadWord(group + 32, c / 4 * kStripRows + r) >> (c % 4 * 8);
        y[k + c] = scale * (group_scale * static_cast<float>(static_cast<int8_t>(code)));
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
