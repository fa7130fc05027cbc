#include "kernels/x86_avx2_math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {
namespace {

class ExpTest : public testing::Test {
 protected:
  void SetUp() override {
    if ((CpuFeatures() & kAvx2) == 0) GTEST_SKIP() << "this CPU has no AVX2";
  }
  static float Exp(float x) { return _mm256_cvtss_f32(avx2::Exp(_mm256_set1_ps(x))); }
};

TEST_F(ExpTest, RelativeErrorIsBelowTheBoundOfTheHeader) {
  double largest = 0;
  for (uint32_t bits = 0; bits < 0x42b00000u; bits += 97) {  // 0 .. 88
    const float x = std::bit_cast<float>(bits);
    for (const float signed_x : {x, -x}) {
      if (signed_x < -86.9f) continue;
      const double truth = std::exp(static_cast<double>(signed_x));
      largest = std::max(largest, std::abs(Exp(signed_x) - truth) / truth);
    }
  }
  EXPECT_LT(largest, 1.2e-7);
  RecordProperty("largest_relative_error", testing::PrintToString(largest));
}

TEST_F(ExpTest, Limits) {
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-87.4f), 0.0f);
  EXPECT_EQ(Exp(-1e30f), 0.0f);
  EXPECT_EQ(Exp(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_EQ(Exp(89.0f), std::numeric_limits<float>::infinity());
  EXPECT_EQ(Exp(std::numeric_limits<float>::infinity()), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
