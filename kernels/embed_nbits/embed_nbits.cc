#include "kernels/embed_nbits/embed_nbits.h"

#include "kernels/matmul_nbits/read_group.h"

namespace ryzen_npu_gemma::kernels {

void EmbedRow(const NBitsShape& shape, const uint8_t* packed, int64_t row, float scale, float* y) {
  const uint8_t* strip = packed + row / kStripRows * shape.strip_bytes();
  const int64_t r = row % kStripRows;
  for (int64_t g = 0; g < shape.groups(); ++g) {
    const RowParameters w = ReadParameters(shape, strip, g, r);
    const uint8_t* words = strip + shape.words_offset(g);
    for (int64_t c = 0; c < 32; ++c) {
      const int code = shape.bits == 4 ? ReadCode(4, words, c, r) : ReadCode(8, words, c, r);
      y[g * 32 + c] = scale * (w.scale * (static_cast<float>(code) - w.zero) + w.offset);
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
