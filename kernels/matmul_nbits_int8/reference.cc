// Scalar truth; its inner loops run over the 16 rows of a strip, so it is the portable row as well.
#include <algorithm>
#include <cstring>

#include "kernels/float16.h"
#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"

namespace ryzen_npu_gemma::kernels {

namespace {

struct GroupWeights {
  float scale[kStripRows];
  float min[kStripRows] = {};
  int32_t q[32][kStripRows];  // [column][row]
};

void ReadParameters(const uint8_t* group, float (&values)[kStripRows]) {
  uint16_t h[kStripRows];
  std::memcpy(h, group, sizeof(h));
  for (int64_t r = 0; r < kStripRows; ++r) values[r] = Bfloat16ToFloat(h[r]);
}

GroupWeights Read4(const uint8_t* group) {
  GroupWeights w;
  ReadParameters(group, w.scale);
  ReadParameters(group + 32, w.min);
  uint32_t words[4][kStripRows];
  std::memcpy(words, group + 64, sizeof(words));
  for (int64_t c = 0; c < 32; ++c) {
    for (int64_t r = 0; r < kStripRows; ++r) w.q[c][r] = static_cast<int32_t>((words[c / 8][r] >> (c % 8 * 4)) & 15);
  }
  return w;
}

GroupWeights Read8(const uint8_t* group) {
  GroupWeights w;
  ReadParameters(group, w.scale);
  uint32_t words[8][kStripRows];
  std::memcpy(words, group + 32, sizeof(words));
  for (int64_t c = 0; c < 32; ++c) {
    for (int64_t r = 0; r < kStripRows; ++r) w.q[c][r] = static_cast<int8_t>(words[c / 4][r] >> (c % 4 * 8));
  }
  return w;
}

}  // namespace

void MatMulNBitsInt8Reference(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed,
                              int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
    const uint8_t* group = packed + strip * shape.strip_bytes();
    const int64_t n = strip * kStripRows;
    const int64_t rows = std::min(kStripRows, shape.N - n);
    for (int64_t m = 0; m < M; ++m) std::fill_n(y + m * ldy + n, rows, 0.0f);
    for (int64_t g = 0; g < shape.groups(); ++g, group += shape.group_bytes()) {
      const GroupWeights w = shape.bits == 4 ? Read4(group) : Read8(group);
      for (int64_t m = 0; m < M; ++m) {
        const QuantizedGroup& x = a[m * shape.groups() + g];
        int32_t sum[kStripRows] = {};
        for (int64_t c = 0; c < 32; ++c) {
          const int32_t code = x.code[CodePosition(c)];
          for (int64_t r = 0; r < kStripRows; ++r) sum[r] += code * w.q[c][r];
        }
        for (int64_t r = 0; r < rows; ++r) {
          y[m * ldy + n + r] += x.scale * (w.scale[r] * static_cast<float>(sum[r]) + w.min[r] * x.code_sum);
        }
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
