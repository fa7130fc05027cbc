// Scalar truth; its inner loops run over the 16 rows of a strip, so it is the portable row as well.
#include <algorithm>

#include "kernels/matmul_nbits/read_group.h"
#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"

namespace ryzen_npu_gemma::kernels {

namespace {

struct GroupWeights {
  float scale[kStripRows];
  float zero[kStripRows];
  float offset[kStripRows];
  int32_t q[32][kStripRows];  // [column][row]
};

template <int kBits>
GroupWeights Read(const NBitsShape& shape, const uint8_t* strip, int64_t g) {
  GroupWeights w;
  for (int64_t r = 0; r < kStripRows; ++r) {
    const RowParameters row = ReadParameters(shape, strip, g, r);
    w.scale[r] = row.scale;
    w.zero[r] = row.zero;
    w.offset[r] = row.offset;
  }
  const uint8_t* words = strip + shape.words_offset(g);
  for (int64_t c = 0; c < 32; ++c) {
    for (int64_t r = 0; r < kStripRows; ++r) w.q[c][r] = ReadCode(kBits, words, c, r);
  }
  return w;
}

}  // namespace

void MatMulNBitsInt8Reference(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed,
                              int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
    const int64_t n = strip * kStripRows;
    const int64_t rows = std::min(kStripRows, shape.N - n);
    for (int64_t m = 0; m < M; ++m) std::fill_n(y + m * ldy + n, rows, 0.0f);
    for (int64_t g = 0; g < shape.groups(); ++g) {
      const uint8_t* packed_strip = packed + strip * shape.strip_bytes();
      const GroupWeights w = shape.bits == 4 ? Read<4>(shape, packed_strip, g) : Read<8>(shape, packed_strip, g);
      for (int64_t m = 0; m < M; ++m) {
        const QuantizedGroup& x = a[m * shape.groups() + g];
        int32_t sum[kStripRows] = {};
        for (int64_t c = 0; c < 32; ++c) {
          const int32_t code = x.code[CodePosition(c)];
          for (int64_t r = 0; r < kStripRows; ++r) sum[r] += code * w.q[c][r];
        }
        const float code_sum = static_cast<float>(x.zero) / -kCodeZero;
        for (int64_t r = 0; r < rows; ++r) {
          y[m * ldy + n + r] +=
              x.scale * (w.scale[r] * (static_cast<float>(sum[r]) - w.zero[r] * code_sum) + w.offset[r] * code_sum);
        }
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
