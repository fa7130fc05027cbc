#include "kernels/quantize_rotated_rows/quantize_rotated_rows.h"

#include <algorithm>
#include <limits>

#include "kernels/quantize_rows/quantize_rows.h"
#include "tests/kernels/hadamard.h"
#include "tests/kernels/kernel_test.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<QuantizeRotatedRowsFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/quantize_rotated_rows/kernels.inc"
#undef KERNEL
};

class QuantizeRotatedRowsTest : public KernelRowTest<QuantizeRotatedRowsFn> {
 protected:
  RotatedSpan One(const std::vector<float>& x) const {
    RotatedSpan q;
    kernel()(x.data(), 1, kSpanColumns, kSpanColumns, &q, 1);
    return q;
  }
};

int CodeOf(const RotatedSpan& q, int64_t c) { return q.code[RotatedPosition(c)] - kRotatedZero; }

TEST_P(QuantizeRotatedRowsTest, EveryRotatedValueIsWithinHalfAStep) {
  constexpr int64_t kM = 5, kK = 3 * kSpanColumns, kLdx = kK + 3, kLdq = kM + 2;
  const std::vector<float> values = RandomFloats(kM * kLdx + 1, 1);
  const float* x = values.data() + 1;  // not aligned
  Guarded<RotatedSpan> q(3 * kLdq);
  kernel()(x, kM, kLdx, kK, q.data(), kLdq);
  for (int64_t p = 0; p < 3; ++p) {
    for (int64_t m = kM; m < kLdq; ++m) EXPECT_TRUE(q.Untouched(static_cast<std::size_t>(p * kLdq + m)));
    for (int64_t m = 0; m < kM; ++m) {
      const RotatedSpan& span = q[static_cast<std::size_t>(p * kLdq + m)];
      int largest = 0;
      for (int64_t row = 0; row < kSpanColumns; ++row) {
        double truth = 0;
        for (int64_t c = 0; c < kSpanColumns; ++c)
          truth += Hadamard(row, c) * static_cast<double>(x[m * kLdx + p * kSpanColumns + c]);
        // 2^-10: sums of 64 and the inverse of the scale are rounded to fp32, times 127
        EXPECT_LE(std::abs(truth - static_cast<double>(span.scale) * CodeOf(span, row)),
                  static_cast<double>(span.scale) * (0.5 + 0x1p-10))
            << "span " << p << " m " << m << " row " << row;
        largest = std::max(largest, std::abs(CodeOf(span, row)));
      }
      EXPECT_EQ(largest, 127);
    }
  }
  EXPECT_TRUE(q.Intact());
}

TEST_P(QuantizeRotatedRowsTest, BitsAreThoseOfTheReference) {
  for (const int64_t rows : {0, 7, 8, 9, 37}) {
    for (const float deviation : {1e-32f, 1e-3f, 1.0f, 1e6f, 1e36f}) {
      const auto size = static_cast<std::size_t>(rows) * 256;
      std::vector<float> x = RandomFloats(size, 2, deviation);
      if (rows > 1) x[300] *= 3000;
      if (rows > 8) {
        x[8 * 256 + 5] = std::numeric_limits<float>::quiet_NaN();
        std::fill_n(x.begin() + 8 * 256 + 128, 128, 0.0f);
      }
      std::vector<RotatedSpan> q(size / kSpanColumns), expected(q.size());
      kernel()(x.data(), rows, 256, 256, q.data(), rows);
      QuantizeRotatedRowsReference(x.data(), rows, 256, 256, expected.data(), rows);
      EXPECT_TRUE(SameBits(q, expected)) << rows << " rows, deviation " << deviation;
    }
  }
}

TEST_P(QuantizeRotatedRowsTest, AnOutlierIsSpreadOverItsSetOfColumns) {
  std::vector<float> x(kSpanColumns);
  x[37] = -127.0f;  // bit 2 is set
  const RotatedSpan q = One(x);
  EXPECT_EQ(q.scale, 1.0f);
  for (int64_t c = 0; c < kSpanColumns; ++c) EXPECT_EQ(CodeOf(q, c), -127 * Hadamard(c, 37)) << c;
}

TEST_P(QuantizeRotatedRowsTest, ZeroAndWhatIsTooSmallBecomeZero) {
  for (const float tiny : {0.0f, -0.0f, 1e-45f, -1e-38f, kSmallestMagnitude / 65}) {
    const RotatedSpan q = One(std::vector<float>(kSpanColumns, tiny));
    EXPECT_EQ(q.scale, 0.0f) << tiny;
    for (int64_t c = 0; c < kSpanColumns; ++c) EXPECT_EQ(CodeOf(q, c), 0) << tiny;
  }
}

TEST_P(QuantizeRotatedRowsTest, WhatIsNotFiniteOrOverflowsMakesTheScaleOfItsSpanNan) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (std::size_t c = 0; c < kSpanColumns; ++c) {
      std::vector<float> x(3 * kSpanColumns, 1.0f);
      x[kSpanColumns + c] = bad;
      std::vector<RotatedSpan> q(3);
      kernel()(x.data(), 1, 3 * kSpanColumns, 3 * kSpanColumns, q.data(), 1);
      EXPECT_TRUE(std::isnan(q[1].scale)) << bad << " c " << c;
      for (int64_t i = 0; i < kSpanColumns; ++i) EXPECT_EQ(CodeOf(q[1], i), 0);
      EXPECT_EQ(q[0].scale, 64.0f / 127);
      EXPECT_EQ(q[2].scale, 64.0f / 127);
    }
  }
  EXPECT_TRUE(std::isnan(One(std::vector<float>(kSpanColumns, std::numeric_limits<float>::max())).scale));
}

INSTANTIATE_TEST_SUITE_P(Rows, QuantizeRotatedRowsTest, testing::ValuesIn(kRows), RowName<QuantizeRotatedRowsFn>);

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
