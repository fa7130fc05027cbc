#include "kernels/gelu_mul/gelu_mul.h"

#include <limits>

#include "tests/kernels/kernel_test.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<GeluMulFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/gelu_mul/kernels.inc"
#undef KERNEL
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();

double Gelu(double x) {
  const double u = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
  return x / (1 + std::exp(-2 * u));
}

class GeluMulTest : public KernelRowTest<GeluMulFn> {
 protected:
  float One(float gate, float up) const {
    float y = 0;
    kernel()(&gate, &up, 1, &y);
    return y;
  }
};

// The error is taken relative to |gate * up|: 0.5 x (1 + tanh) in fp32 cannot do better for negative x.
TEST_P(GeluMulTest, ErrorIsWithinTwiceThatOfIdealFp32) {
  std::vector<float> gate;
  for (float x = -12.0f; x < 12.0f; x += 1.0f / 512) gate.push_back(x);
  for (float x = 1e-30f; x < 1e30f; x *= 3.7f) gate.insert(gate.end(), {x, -x});
  const std::vector<float> up = RandomFloats(gate.size(), 1);
  const auto n = static_cast<int64_t>(gate.size());
  std::vector<float> y(gate.size()), ideal(gate.size());
  kernel()(gate.data(), up.data(), n, y.data());
  GeluMulReference(gate.data(), up.data(), n, ideal.data());
  ErrorRule rule;
  for (std::size_t i = 0; i < gate.size(); ++i) {
    rule.Add(Gelu(gate[i]) * up[i], std::abs(static_cast<double>(gate[i]) * up[i]), y[i], ideal[i]);
  }
  rule.Check(0);
}

TEST_P(GeluMulTest, AnyLengthAndAlignmentAndInPlace) {
  for (std::size_t n = 0; n < 40; ++n) {
    const std::vector<float> gate = RandomFloats(n + 1, 2), up = RandomFloats(n + 1, 3);
    Guarded<float> y(n, 1), over_gate(n, 3), over_up(n, 2);
    std::copy_n(gate.data() + 1, n, over_gate.data());
    std::copy_n(up.data() + 1, n, over_up.data());
    const auto length = static_cast<int64_t>(n);
    kernel()(gate.data() + 1, up.data() + 1, length, y.data());
    kernel()(over_gate.data(), up.data() + 1, length, over_gate.data());
    kernel()(gate.data() + 1, over_up.data(), length, over_up.data());
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(y[i], Gelu(gate[i + 1]) * up[i + 1], 1e-6) << "n " << n;
    EXPECT_TRUE(SameBits(y.values(), over_gate.values()) && SameBits(y.values(), over_up.values())) << "n " << n;
    EXPECT_TRUE(y.Intact() && over_gate.Intact() && over_up.Intact()) << "n " << n;
  }
}

TEST_P(GeluMulTest, LimitsAreThoseOfTheFormula) {
  EXPECT_EQ(One(kInfinity, 1.0f), kInfinity);
  EXPECT_EQ(One(1e30f, 2.0f), 2e30f);
  EXPECT_EQ(One(-1e30f, 2.0f), 0.0f);
  EXPECT_EQ(One(-100.0f, 2.0f), 0.0f);
  EXPECT_EQ(One(0.0f, 5.0f), 0.0f);
  EXPECT_TRUE(std::isnan(One(-kInfinity, 1.0f)));  // -inf * 0
  EXPECT_TRUE(std::isnan(One(std::numeric_limits<float>::quiet_NaN(), 1.0f)));
  EXPECT_TRUE(std::isnan(One(1.0f, std::numeric_limits<float>::quiet_NaN())));
}

INSTANTIATE_TEST_SUITE_P(Rows, GeluMulTest, testing::ValuesIn(kRows), RowName<GeluMulFn>);

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
