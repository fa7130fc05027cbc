// Scalar truth of the packed layout. Its inner loops run over the 16 rows of a strip, which compilers vectorise on any
// processor, so it is the portable row as well.
#include <algorithm>
#include <cstring>

#include "kernels/float16.h"
#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels {

namespace {

using GroupWeights = float[32][kStripRows];  // [column][row]

void ReadParameters(const uint8_t* group, float (&values)[kStripRows]) {
  uint16_t h[kStripRows];
  std::memcpy(h, group, sizeof(h));
  for (int64_t r = 0; r < kStripRows; ++r) values[r] = Bfloat16ToFloat(h[r]);
}

void DequantiseGroup4(const uint8_t* group, GroupWeights& w) {
  float scale[kStripRows], min[kStripRows];
  ReadParameters(group, scale);
  ReadParameters(group + 32, min);
  uint32_t words[4][kStripRows];
  std::memcpy(words, group + 64, sizeof(words));
  for (int64_t c = 0; c < 32; ++c) {
    for (int64_t r = 0; r < kStripRows; ++r) {
      const auto q = static_cast<int32_t>((words[c / 8][r] >> (c % 8 * 4)) & 15);
      w[c][r] = scale[r] * static_cast<float>(q) + min[r];
    }
  }
}

void DequantiseGroup8(const uint8_t* group, GroupWeights& w) {
  float scale[kStripRows];
  ReadParameters(group, scale);
  uint32_t words[8][kStripRows];
  std::memcpy(words, group + 32, sizeof(words));
  for (int64_t c = 0; c < 32; ++c) {
    for (int64_t r = 0; r < kStripRows; ++r) {
      const auto code = static_cast<int8_t>(words[c / 4][r] >> (c % 4 * 8));
      w[c][r] = scale[r] * static_cast<float>(code);
    }
  }
}

}  // namespace

void MatMulNBitsReference(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
                          int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
    const uint8_t* group = packed + strip * shape.strip_bytes();
    const int64_t n = strip * kStripRows;
    const int64_t rows = std::min(kStripRows, shape.N - n);
    for (int64_t m = 0; m < M; ++m) std::fill_n(y + m * ldy + n, rows, 0.0f);
    for (int64_t k = 0; k < shape.K; k += 32, group += shape.group_bytes()) {
      GroupWeights w;
      shape.bits == 4 ? DequantiseGroup4(group, w) : DequantiseGroup8(group, w);
      for (int64_t m = 0; m < M; ++m) {
        float sum[kStripRows] = {};
        for (int64_t c = 0; c < 32; ++c) {
          const float x = a[m * lda + k + c];
          for (int64_t r = 0; r < kStripRows; ++r) sum[r] += x * w[c][r];
        }
        for (int64_t r = 0; r < rows; ++r) y[m * ldy + n + r] += sum[r];
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
