#include "kernels/qk_norm_rope/qk_norm_rope.h"

#include <limits>

#include "tests/kernels/kernel_test.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<QkNormRopeFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/qk_norm_rope/kernels.inc"
#undef KERNEL
};

constexpr float kEps = 1e-6f;

struct Angles {
  Angles(int64_t head_dim, int64_t position) : cos(static_cast<std::size_t>(head_dim / 2)), sin(cos.size()) {
    std::vector<float> inv_freq(cos.size());
    RopeInvFreq(1e4f, 1.0f, head_dim, inv_freq.data());
    RopeAngles(inv_freq.data(), head_dim, position, cos.data(), sin.data());
  }
  std::vector<float> cos, sin;
};

TEST(RopeInvFreqTest, IsTheFormulaRoundedOnce) {
  for (const auto& [theta, factor] : {std::pair<float, float>{1e4f, 1.0f}, {1e6f, 1.0f}, {1e6f, 8.0f}}) {
    for (const int64_t head_dim : {16, 128, 256}) {
      Guarded<float> inv_freq(static_cast<std::size_t>(head_dim / 2));
      RopeInvFreq(theta, factor, head_dim, inv_freq.data());
      for (int64_t i = 0; i < head_dim / 2; ++i) {
        const long double exponent = 2.0L * static_cast<long double>(i) / static_cast<long double>(head_dim);
        const auto expected = static_cast<float>(1 / (factor * std::pow(static_cast<long double>(theta), exponent)));
        EXPECT_FLOAT_EQ(inv_freq[static_cast<std::size_t>(i)], expected);
      }
      EXPECT_EQ(inv_freq[0], 1 / factor);
      EXPECT_TRUE(inv_freq.Intact());
    }
  }
}

TEST(RopeAnglesTest, AreThoseOfTheFp32Product) {
  std::vector<float> inv_freq(128);
  RopeInvFreq(1e4f, 1.0f, 256, inv_freq.data());
  for (const int64_t position : {0, 1, 511, 32767, 131071}) {
    Guarded<float> cos(128), sin(128);
    RopeAngles(inv_freq.data(), 256, position, cos.data(), sin.data());
    for (std::size_t i = 0; i < 128; ++i) {
      const double angle = static_cast<float>(position) * inv_freq[i];
      EXPECT_NEAR(cos[i], std::cos(angle), 0x1p-24) << "position " << position << " i " << i;
      EXPECT_NEAR(sin[i], std::sin(angle), 0x1p-24) << "position " << position << " i " << i;
    }
    EXPECT_TRUE(cos.Intact() && sin.Intact());
  }
}

class QkNormRopeTest : public KernelRowTest<QkNormRopeFn> {};

TEST_P(QkNormRopeTest, ErrorIsWithinTwiceThatOfIdealFp32) {
  for (const int64_t head_dim : {2, 16, 20, 64, 256}) {
    for (const int64_t position : {0, 3, 1000}) {
      SCOPED_TRACE(testing::Message() << "head_dim " << head_dim << " position " << position);
      const auto D = static_cast<std::size_t>(head_dim);
      const Angles angles(head_dim, position);
      const std::vector<float> values = RandomFloats(D + 1, 1, 5.0f), weight = RandomFloats(D, 2);
      const float* x = values.data() + 1;  // not aligned
      const float scale = 0.0625f;
      Guarded<float> y(D, 1);
      kernel()(x, weight.data(), kEps, angles.cos.data(), angles.sin.data(), scale, 1, head_dim, y.data());
      std::vector<float> ideal(D);
      QkNormRopeReference(x, weight.data(), kEps, angles.cos.data(), angles.sin.data(), scale, 1, head_dim,
                          ideal.data());
      double sum = 0;
      for (std::size_t i = 0; i < D; ++i) sum += static_cast<double>(x[i]) * x[i];
      const double norm = 1 / std::sqrt(sum / static_cast<double>(D) + kEps);
      ErrorRule rule;
      for (std::size_t i = 0; i < D / 2; ++i) {
        const double low = x[i] * norm * weight[i], high = x[i + D / 2] * norm * weight[i + D / 2];
        const double cos = angles.cos[i], sin = angles.sin[i];
        const double magnitude_low = (std::abs(low * cos) + std::abs(high * sin)) * scale;
        const double magnitude_high = (std::abs(high * cos) + std::abs(low * sin)) * scale;
        rule.Add((low * cos - high * sin) * scale, magnitude_low, y[i], ideal[i]);
        rule.Add((high * cos + low * sin) * scale, magnitude_high, y[i + D / 2], ideal[i + D / 2]);
      }
      rule.Check(0);
      EXPECT_TRUE(y.Intact());
    }
  }
}

TEST_P(QkNormRopeTest, InPlaceGivesTheSameBits) {
  constexpr int64_t kHeads = 9;
  const Angles angles(256, 77);
  std::vector<float> x = RandomFloats(kHeads * 256, 3);
  const std::vector<float> weight = RandomFloats(256, 4);
  std::vector<float> y(x.size());
  kernel()(x.data(), weight.data(), kEps, angles.cos.data(), angles.sin.data(), 1.0f, kHeads, 256, y.data());
  kernel()(x.data(), weight.data(), kEps, angles.cos.data(), angles.sin.data(), 1.0f, kHeads, 256, x.data());
  EXPECT_TRUE(SameBits(x, y));
}

TEST_P(QkNormRopeTest, AHeadHasTheSameBitsAloneAndAmongOthers) {
  for (const std::size_t heads : {0, 1, 2, 8, 9, 17}) {
    for (const std::size_t head_dim : {20, 48, 64}) {
      const Angles angles(static_cast<int64_t>(head_dim), 9);
      const std::vector<float> x = RandomFloats(heads * head_dim, 6), weight = RandomFloats(head_dim, 7);
      Guarded<float> y(heads * head_dim, 1);
      const auto run = [&](const float* from, std::size_t count, float* to) {
        kernel()(from, weight.data(), kEps, angles.cos.data(), angles.sin.data(), 0.5f, static_cast<int64_t>(count),
                 static_cast<int64_t>(head_dim), to);
      };
      run(x.data(), heads, y.data());
      std::vector<float> alone(x.size());
      for (std::size_t h = 0; h < heads; ++h) run(x.data() + h * head_dim, 1, alone.data() + h * head_dim);
      EXPECT_TRUE(SameBits(y.values(), alone)) << heads << " heads of " << head_dim;
      EXPECT_TRUE(y.Intact());
    }
  }
}

TEST_P(QkNormRopeTest, NanReachesTheWholeHead) {
  const Angles angles(64, 5);
  std::vector<float> x = RandomFloats(64, 5);
  x[40] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> weight(64, 1.0f);
  kernel()(x.data(), weight.data(), kEps, angles.cos.data(), angles.sin.data(), 1.0f, 1, 64, x.data());
  for (const float value : x) EXPECT_TRUE(std::isnan(value));
}

#ifdef __x86_64__
TEST(QkNormRopeAvx512Test, HasTheBitsOfAvx2) {
  if (!KernelRow<QkNormRopeFn>{"", kAvx512Vnni, nullptr}.supported()) GTEST_SKIP() << "this CPU lacks AVX-512 VNNI";
  const Angles angles(256, 31);
  const std::vector<float> x = RandomFloats(4 * 256, 8), weight = RandomFloats(256, 9);
  std::vector<float> y(x.size()), expected(x.size());
  for (const auto& [kernel, to] : {std::pair{&QkNormRopeAvx512, &y}, {&QkNormRopeAvx2, &expected}})
    kernel(x.data(), weight.data(), kEps, angles.cos.data(), angles.sin.data(), 0.0625f, 4, 256, to->data());
  EXPECT_TRUE(SameBits(y, expected));
}
#endif

INSTANTIATE_TEST_SUITE_P(Rows, QkNormRopeTest, testing::ValuesIn(kRows), RowName<QkNormRopeFn>);

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
