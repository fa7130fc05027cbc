#include "kernels/embed_nbits/embed_nbits.h"

#include "kernels/matmul_nbits/read_group.h"

namespace ryzen_npu_gemma::kernels {

void EmbedRow(const NBitsShape& shape, const uint8_t* packed, int64_t row, float scale, float* y) {
  const uint8_t* strip = packed + row / kStripRows * shape.strip_bytes();
  for (int64_t g = 0; g < shape.groups(); ++g) {
    const GroupRow w = ReadGroup(shape, strip, g, row % kStripRows);
    for (int64_t c = 0; c < 32; ++c)
      y[g * 32 + c] = scale * (w.scale * (static_cast<float>(w.code[c]) - w.zero) + w.offset);
  }
}

}  // namespace ryzen_npu_gemma::kernels
