#include "kernels/quantize_rows/quantize_rows.h"

#include <algorithm>
#include <limits>

#include "tests/kernels/kernel_test.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<QuantizeRowsFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/quantize_rows/kernels.inc"
#undef KERNEL
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class QuantizeRowsTest : public KernelRowTest<QuantizeRowsFn> {
 protected:
  // The group of 32 values, alone and among others like it.
  QuantizedGroup One(const std::vector<float>& x) const {
    std::vector<float> row;
    for (int copy = 0; copy < 7; ++copy) row.insert(row.end(), x.begin(), x.end());
    std::vector<QuantizedGroup> q(7);
    kernel()(row.data(), 1, 224, 224, q.data());
    EXPECT_TRUE(SameBits(q, std::vector<QuantizedGroup>(7, q[6])));
    return q[0];
  }
};

// What a group stands for, column by column.
std::vector<int> Codes(const QuantizedGroup& q) {
  std::vector<int> codes;
  for (int64_t c = 0; c < 32; ++c) codes.push_back(q.code[CodePosition(c)]);
  return codes;
}

TEST_P(QuantizeRowsTest, EveryValueIsWithinHalfAStep) {
  constexpr int64_t kM = 5, kK = 224, kLdx = kK + 3;
  const std::vector<float> values = RandomFloats(kM * kLdx + 1, 1);
  const float* x = values.data() + 1;  // not aligned
  Guarded<QuantizedGroup> q(kM * kK / 32);
  kernel()(x, kM, kLdx, kK, q.data());
  for (int64_t m = 0; m < kM; ++m) {
    for (int64_t k = 0; k < kK; k += 32) {
      const QuantizedGroup& group = q[static_cast<std::size_t>((m * kK + k) / 32)];
      const std::vector<int> codes = Codes(group);
      float sum = 0, largest = 0;
      for (int64_t c = 0; c < 32; ++c) {
        const float value = x[m * kLdx + k + c];
        const auto code = static_cast<float>(codes[static_cast<std::size_t>(c)]);
        sum += code;
        largest = std::max(largest, std::abs(code));
        // 2^-15: the scale and its inverse are rounded to fp32, times 127
        EXPECT_LE(std::abs(value - group.scale * code), group.scale * (0.5f + 0x1p-15f)) << "m " << m << " c " << k + c;
      }
      EXPECT_EQ(group.zero, -8 * sum);
      EXPECT_EQ(largest, 127.0f);
    }
  }
  EXPECT_TRUE(q.Intact());
}

TEST_P(QuantizeRowsTest, BitsAreThoseOfTheReference) {
  for (const float deviation : {1e-32f, 1e-3f, 1.0f, 1e6f, 1e36f}) {
    const std::vector<float> x = RandomFloats(7 * 256, 2, deviation);
    std::vector<QuantizedGroup> q(7 * 8), expected = q;
    kernel()(x.data(), 7, 256, 256, q.data());
    QuantizeRowsReference(x.data(), 7, 256, 256, expected.data());
    EXPECT_TRUE(SameBits(q, expected)) << "deviation " << deviation;
  }
}

TEST_P(QuantizeRowsTest, HalvesGoToTheEvenCode) {
  std::vector<float> x(32);
  x[0] = 127.0f;  // scale 1
  x[1] = 0.5f;
  x[2] = 1.5f;
  x[3] = -2.5f;
  x[4] = -3.5f;
  const QuantizedGroup q = One(x);
  EXPECT_EQ(q.scale, 1.0f);
  const std::vector<int> codes = Codes(q);
  EXPECT_EQ(std::vector<int>(codes.begin(), codes.begin() + 6), (std::vector<int>{127, 0, 2, -2, -4, 0}));
  EXPECT_EQ(q.zero, -8 * 123);
}

TEST_P(QuantizeRowsTest, ZeroAndWhatIsTooSmallBecomeZero) {
  for (const float tiny : {0.0f, -0.0f, 1e-45f, -1e-38f, std::nextafter(kSmallestMagnitude, 0.0f)}) {
    const QuantizedGroup q = One(std::vector<float>(32, tiny));
    EXPECT_EQ(q.scale, 0.0f) << tiny;
    EXPECT_EQ(q.zero, 0) << tiny;
    EXPECT_EQ(Codes(q), std::vector<int>(32)) << tiny;
  }
}

TEST_P(QuantizeRowsTest, TheSmallestAndTheLargestMagnitudeHaveCodes) {
  for (const float value : {kSmallestMagnitude, std::numeric_limits<float>::max()}) {
    const QuantizedGroup q = One(std::vector<float>(32, -value));
    EXPECT_FLOAT_EQ(q.scale, value / 127);
    EXPECT_EQ(Codes(q), std::vector<int>(32, -127));
  }
}

TEST_P(QuantizeRowsTest, ANonFiniteValueMakesTheScaleOfItsGroupNan) {
  for (const float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
    for (std::size_t c = 0; c < 32; ++c) {
      std::vector<float> x(192, 1.0f);
      x[32 + c] = bad;
      std::vector<QuantizedGroup> q(6);
      kernel()(x.data(), 1, 192, 192, q.data());
      EXPECT_TRUE(std::isnan(q[1].scale)) << bad << " c " << c;
      EXPECT_EQ(q[1].zero, 0);
      EXPECT_EQ(Codes(q[1]), std::vector<int>(32));
      EXPECT_EQ(q[0].zero, -8 * 32 * 127);
      EXPECT_EQ(q[2].zero, -8 * 32 * 127);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, QuantizeRowsTest, testing::ValuesIn(kRows), RowName<QuantizeRowsFn>);

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
