// Scalar truth.
#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "kernels/matmul_nbits/read_group.h"
#include "kernels/matmul_rotated_int8/matmul_rotated_int8.h"
#include "kernels/matmul_rotated_int8/rotate_strip.h"
#include "kernels/quantize_rows/quantize_rows.h"

namespace ryzen_npu_gemma::kernels {

namespace {

// x86's vpmulhrsw
int16_t MultiplyRound(int16_t a, int16_t b) {
  return static_cast<int16_t>((static_cast<int32_t>(a) * b + (1 << 14)) >> 15);
}

int16_t RoundTo16(float x) { return std::isfinite(x) ? static_cast<int16_t>(std::nearbyint(x)) : int16_t{0}; }

// The stages of a Hadamard matrix: for each step c and c + step become their sum and their difference.
void Rotate(int16_t (&v)[kSpanColumns], std::initializer_list<int64_t> steps) {
  for (const int64_t step : steps) {
    for (int64_t c = 0; c < kSpanColumns; ++c) {
      if (c & step) continue;
      const int16_t a = v[c], b = v[c + step];
      v[c] = static_cast<int16_t>(a + b);
      v[c + step] = static_cast<int16_t>(a - b);
    }
  }
}

}  // namespace

void RotateStripReference(const NBitsShape& shape, const uint8_t* packed_strip, int64_t span, RotatedStrip& strip) {
  for (int64_t r = 0; r < kStripRows; ++r) {
    float largest_weight[kSpanGroups], scale[kSpanGroups], centre[kSpanGroups];
    int16_t v[kSpanColumns];
    for (int64_t g = 0; g < kSpanGroups; ++g) {
      const int64_t group = span * kSpanGroups + g;
      const RowParameters row = ReadParameters(shape, packed_strip, group, r);
      scale[g] = row.scale;
      centre[g] = row.offset;
      largest_weight[g] = std::fma(kCentreCode, scale[g], std::fabs(centre[g]));
      const uint8_t* words = packed_strip + shape.words_offset(group);
      for (int64_t c = 0; c < 32; ++c) v[g * 32 + c] = static_cast<int16_t>(ReadCode(4, words, c, r) << kCodeShift);
    }
    const float bound = (largest_weight[0] + largest_weight[1]) + (largest_weight[2] + largest_weight[3]);
    const float units = bound >= kSmallestMagnitude ? kUnitsOfBound / bound : 0;
    Rotate(v, {1, 2, 8, 16});
    for (int64_t g = 0; g < kSpanGroups; ++g) {
      const int16_t multiplier = RoundTo16(scale[g] * units * kMultiplierOne);
      const int16_t mean = RoundTo16(centre[g] * units * 16);
      for (int64_t c = 0; c < 32; ++c) {
        int16_t& x = v[g * 32 + c];
        const bool first = c % 4 == 0 && c < 8;  // the sum of all 16 columns
        if (first) x = static_cast<int16_t>(x - kMeanOf16);
        x = static_cast<int16_t>(MultiplyRound(x, multiplier) + (first ? mean : 0));
      }
    }
    Rotate(v, {32, 64});
    int32_t largest = 0;
    for (const int16_t x : v) largest = std::max(largest, std::abs(int32_t{x}));
    const int32_t to_code = largest < 128 ? 32767 : static_cast<int32_t>(127 * 32768.0f / static_cast<float>(largest));
    int32_t sum = 0;
    for (int64_t c = 0; c < kSpanColumns; ++c) {
      const auto code = static_cast<int8_t>(MultiplyRound(v[c], static_cast<int16_t>(to_code)));
      const int64_t position = RotatedPosition(c);
      strip.code[position / 4][r][position % 4] = code;
      sum += code;
    }
    strip.scale[r] = bound * kScaleOfBound / static_cast<float>(to_code);
    strip.zero[r] = -kRotatedZero * sum;
  }
}

void MatMulRotatedInt8Reference(const NBitsShape& shape, const RotatedSpan* a, int64_t M, const uint8_t* packed,
                                int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  const int64_t spans = shape.K / kSpanColumns;
  RotatedStrip w;
  for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
    const int64_t n = strip * kStripRows;
    const int64_t rows = std::min(kStripRows, shape.N - n);
    for (int64_t m = 0; m < M; ++m) std::fill_n(y + m * ldy + n, rows, 0.0f);
    for (int64_t p = 0; p < spans; ++p) {
      RotateStripReference(shape, packed + strip * shape.strip_bytes(), p, w);
      for (int64_t m = 0; m < M; ++m) {
        const RotatedSpan& x = a[p * M + m];
        for (int64_t r = 0; r < rows; ++r) {
          int32_t sum = w.zero[r];
          for (int64_t i = 0; i < kSpanColumns; ++i) sum += x.code[i] * w.code[i / 4][r][i % 4];
          y[m * ldy + n + r] += x.scale * (w.scale[r] * static_cast<float>(sum));
        }
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
