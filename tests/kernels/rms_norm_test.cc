#include "kernels/rms_norm/rms_norm.h"

#include <limits>

#include "tests/kernels/kernel_test.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<RmsNormFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/rms_norm/kernels.inc"
#undef KERNEL
};

constexpr float kEps = 1e-6f;

class RmsNormTest : public KernelRowTest<RmsNormFn> {};

TEST_P(RmsNormTest, ErrorIsWithinTwiceThatOfIdealFp32) {
  for (const std::size_t D : {1, 7, 8, 31, 64, 256, 640, 1152, 2565}) {
    for (const std::size_t rows : {0, 1, 3, 8, 9, 17}) {
      SCOPED_TRACE(testing::Message() << "D " << D << " rows " << rows);
      const std::vector<float> values = RandomFloats(rows * D + 1, 1, 3.0f);
      const std::vector<float> weight = RandomFloats(D, 2);
      const float* x = values.data() + 1;  // not aligned
      Guarded<float> y(rows * D, 1);
      kernel()(x, weight.data(), kEps, static_cast<int64_t>(rows), static_cast<int64_t>(D), y.data());
      std::vector<float> ideal(rows * D);
      RmsNormReference(x, weight.data(), kEps, static_cast<int64_t>(rows), static_cast<int64_t>(D), ideal.data());
      ErrorRule rule;
      for (std::size_t row = 0; row < rows; ++row) {
        double sum = 0;
        for (std::size_t i = row * D; i < (row + 1) * D; ++i) sum += static_cast<double>(x[i]) * x[i];
        const double scale = 1 / std::sqrt(sum / static_cast<double>(D) + kEps);
        for (std::size_t i = row * D; i < (row + 1) * D; ++i) {
          const double truth = x[i] * scale * weight[i % D];
          rule.Add(truth, std::abs(truth), y[i], ideal[i]);
        }
      }
      rule.Check(0);
      EXPECT_TRUE(y.Intact());
    }
  }
}

TEST_P(RmsNormTest, InPlaceGivesTheSameBits) {
  const int64_t D = 643, rows = 9;
  std::vector<float> x = RandomFloats(static_cast<std::size_t>(rows * D), 3);
  const std::vector<float> weight = RandomFloats(static_cast<std::size_t>(D), 4);
  std::vector<float> y(x.size());
  kernel()(x.data(), weight.data(), kEps, rows, D, y.data());
  kernel()(x.data(), weight.data(), kEps, rows, D, x.data());
  EXPECT_TRUE(SameBits(x, y));
}

TEST_P(RmsNormTest, ARowOfZerosStaysZero) {
  const std::vector<float> x(40, 0.0f), weight(40, 2.0f);
  std::vector<float> y(40, 1.0f);
  kernel()(x.data(), weight.data(), kEps, 1, 40, y.data());
  for (const float value : y) EXPECT_EQ(value, 0.0f);
}

TEST_P(RmsNormTest, NanReachesItsRowOnly) {
  std::vector<float> x = RandomFloats(17 * 40, 5);
  x[9 * 40 + 3] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> weight(40, 1.0f);
  std::vector<float> y(x.size());
  kernel()(x.data(), weight.data(), kEps, 17, 40, y.data());
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / 40 == 9) << i;
}

INSTANTIATE_TEST_SUITE_P(Rows, RmsNormTest, testing::ValuesIn(kRows), RowName<RmsNormFn>);

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
