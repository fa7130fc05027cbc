#include "kernels/matmul_nbits/matmul_nbits.h"

#include <limits>
#include <sstream>
#include <tuple>

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/q4nx_matrix.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<MatMulNBitsFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/matmul_nbits/kernels.inc"
#undef KERNEL
};

std::string Describe(const NBitsShape& shape) {
  std::ostringstream name;
  name << "N" << shape.N << "K" << shape.K << "B" << shape.bits;
  if (shape.parameters == Parameters::kRounded) name << "Rounded";
  return name.str();
}

// --- PackStrips ------------------------------------------------------------------------------------------------------

class PackStripsTest : public testing::TestWithParam<NBitsShape> {};

TEST_P(PackStripsTest, EveryWeightKeepsItsPlaceAndPaddingIsZero) {
  const NBitsShape shape = GetParam();
  const std::vector<uint8_t> blocks = RandomBlocks(shape, 1);
  Guarded<uint8_t> packed(static_cast<std::size_t>(shape.packed_bytes()));
  const int64_t middle = shape.strips() / 2;
  PackStrips(shape, blocks.data(), 0, middle, packed.data());
  PackStrips(shape, blocks.data(), middle, shape.strips(), packed.data());
  for (int64_t n = 0; n < shape.strips() * 16; ++n) {
    for (int64_t k = 0; k < shape.K; ++k) {
      const Weight expected = n < shape.N ? WeightOfBlocks(shape, blocks, n, k) : Weight{0, 0, 0};
      ASSERT_EQ(WeightOfStrips(shape, packed.data(), n, k), expected) << "n " << n << " k " << k;
    }
  }
  EXPECT_TRUE(packed.Intact());
}

TEST_P(PackStripsTest, TouchesOnlyItsStrips) {
  const NBitsShape shape = GetParam();
  const std::vector<uint8_t> blocks = RandomBlocks(shape, 1);
  const auto strip_bytes = static_cast<std::size_t>(shape.strip_bytes());
  Guarded<uint8_t> packed(static_cast<std::size_t>(shape.packed_bytes()));
  PackStrips(shape, blocks.data(), shape.strips() - 1, shape.strips(), packed.data());
  for (std::size_t i = 0; i < static_cast<std::size_t>(shape.strips() - 1) * strip_bytes; ++i) {
    ASSERT_TRUE(packed.Untouched(i));
  }
  EXPECT_TRUE(packed.Intact());
}

INSTANTIATE_TEST_SUITE_P(Shapes, PackStripsTest,
                         testing::Values(NBitsShape{16, 32, 4}, NBitsShape{1, 256, 4}, NBitsShape{40, 640, 4},
                                         NBitsShape{37, 1152, 4}, NBitsShape{16, 32, 8}, NBitsShape{33, 640, 8}),
                         [](const auto& info) { return Describe(info.param); });

// --- Rounded parameters ----------------------------------------------------------------------------------------------

class RoundedParametersTest : public testing::TestWithParam<NBitsShape> {
 protected:
  // Sets scale and minimum of every group of row n.
  template <typename Fn>
  static void SetParameters(const NBitsShape& shape, std::vector<uint8_t>& blocks, int64_t n, Fn parameters_of) {
    for (int64_t g = 0; g < shape.groups(); ++g) {
      const int64_t block = n / 32 * ((shape.K + 255) / 256) + g / 8;
      uint8_t* at = blocks.data() + block * q4nx::kBlockBytes4 + (g % 8 * 32 + n % 32) * 2;
      const auto [scale, min] = parameters_of(g);
      const uint16_t scale16 = FloatToBfloat16(scale), min16 = FloatToBfloat16(min);
      std::memcpy(at, &scale16, 2);
      std::memcpy(at + q4nx::kMinOffset, &min16, 2);
    }
  }
};

// Every third row has scales below zero, every fifth one group that is a hundred times as large as the others.
TEST_P(RoundedParametersTest, AreWithinHalfAStepOfTheRowAndCodesKeepTheirPlace) {
  const NBitsShape shape = GetParam();
  std::vector<uint8_t> blocks = RandomBlocks(shape, 1);
  const std::vector<float> random = RandomFloats(static_cast<std::size_t>(shape.N * shape.groups() * 2), 2);
  for (int64_t n = 0; n < shape.N; ++n) {
    SetParameters(shape, blocks, n, [&](int64_t g) {
      const float* two = &random[static_cast<std::size_t>(2 * (n * shape.groups() + g))];
      const float scale = std::abs(two[0]) * (n % 3 == 2 ? -1.0f : 1.0f) * (n % 5 == 4 && g == 0 ? 100.0f : 1.0f);
      return std::pair(scale, -7.5f * scale + two[1]);
    });
  }
  const Matrix w(shape, blocks);
  for (int64_t n = 0; n < shape.N; ++n) {
    double largest_scale = 0, largest_centre = 0;
    for (int64_t k = 0; k < shape.K; k += 32) {
      const Weight exact = WeightOfBlocks(shape, blocks, n, k);
      largest_scale = std::max(largest_scale, std::abs(static_cast<double>(exact.scale)));
      largest_centre = std::max(largest_centre, std::abs(exact.min + 7.5 * static_cast<double>(exact.scale)));
    }
    // Steps are a 127th or 255th of the largest, up to the next number of 8 bits.
    const double scale_error = largest_scale / 127 * (1 + 0x1p-7) / 2;
    const double centre_error = largest_centre / 255 * (1 + 0x1p-7) / 2;
    for (int64_t k = 0; k < shape.K; ++k) {
      SCOPED_TRACE(testing::Message() << "n " << n << " k " << k);
      const Weight exact = WeightOfBlocks(shape, blocks, n, k), rounded = w.weight(n, k);
      const double scale = static_cast<double>(exact.scale), centre = exact.min + 7.5 * scale;
      ASSERT_EQ(rounded.code, scale < 0 ? 15 - exact.code : exact.code);
      ASSERT_NEAR(rounded.scale, std::abs(scale), scale_error * 1.00001);
      ASSERT_NEAR(rounded.min + 7.5 * static_cast<double>(rounded.scale), centre, centre_error * 1.0001);
    }
  }
}

TEST_P(RoundedParametersTest, PaddingIsZeroAndNothingIsWrittenBesideTheStrips) {
  const NBitsShape shape = GetParam();
  const std::vector<uint8_t> blocks = RandomBlocks(shape, 1);
  Guarded<uint8_t> packed(static_cast<std::size_t>(shape.packed_bytes()));
  const auto last = static_cast<std::size_t>((shape.strips() - 1) * shape.strip_bytes());
  PackStrips(shape, blocks.data(), shape.strips() - 1, shape.strips(), packed.data());
  for (std::size_t i = 0; i < last; ++i) ASSERT_TRUE(packed.Untouched(i));
  for (int64_t n = shape.N; n < shape.strips() * 16; ++n) {
    for (int64_t k = 0; k < shape.K; ++k) {
      ASSERT_EQ(WeightOfStrips(shape, packed.data(), n, k), (Weight{0, 0, 0})) << "n " << n << " k " << k;
    }
  }
  EXPECT_TRUE(packed.Intact());
}

TEST_P(RoundedParametersTest, OneThatIsNotFiniteMakesItsRowNanAndNoOther) {
  const NBitsShape shape = GetParam();
  const int64_t bad_row = shape.N - 1, bad_group = shape.groups() - 1;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const bool in_scale : {true, false}) {
      std::vector<uint8_t> blocks = RandomBlocks(shape, 1);
      SetParameters(shape, blocks, bad_row, [&](int64_t g) {
        const float value = g == bad_group ? bad : 1.0f;
        return in_scale ? std::pair(value, -8.0f) : std::pair(1.0f, value);
      });
      const Matrix w(shape, blocks);
      for (int64_t n = 0; n < shape.N; ++n) {
        for (int64_t k = 0; k < shape.K; k += 32) EXPECT_EQ(std::isnan(w.weight(n, k).rounded()), n == bad_row) << n;
      }
    }
  }
}

TEST_P(RoundedParametersTest, TinyAndHugeOnesStayFinite) {
  const NBitsShape shape = GetParam();
  for (const float scale : {0.0f, 1e-45f, 1e-38f, 1e-30f, 1e30f, 1e37f}) {
    std::vector<uint8_t> blocks = RandomBlocks(shape, 1);
    for (int64_t n = 0; n < shape.N; ++n)
      SetParameters(shape, blocks, n, [&](int64_t) { return std::pair(scale, -7 * scale); });
    const Matrix w(shape, blocks);
    for (int64_t n = 0; n < shape.N; ++n) {
      const Weight exact = WeightOfBlocks(shape, blocks, n, 0), rounded = w.weight(n, 0);
      EXPECT_NEAR(rounded.scale, exact.scale, std::max(exact.scale / 100, 1e-36f)) << "scale " << scale;
      EXPECT_TRUE(std::isfinite(rounded.rounded())) << "scale " << scale;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RoundedParametersTest,
                         testing::Values(FastShape({16, 32, 4}), FastShape({1, 256, 4}), FastShape({40, 640, 4}),
                                         FastShape({37, 1152, 4}), FastShape({17, 96, 4})),
                         [](const auto& info) { return Describe(info.param); });

// --- The matrix product ----------------------------------------------------------------------------------------------

using MatMulCase = std::tuple<KernelRow<MatMulNBitsFn>, NBitsShape>;

class MatMulNBitsTest : public testing::TestWithParam<MatMulCase> {
 protected:
  void SetUp() override {
    const KernelRow<MatMulNBitsFn> row = std::get<0>(GetParam());
    if (!row.supported()) GTEST_SKIP() << "this CPU lacks what " << row.name << " needs";
  }
  MatMulNBitsFn kernel() const { return std::get<0>(GetParam()).fn; }
  NBitsShape shape() const { return std::get<1>(GetParam()); }
};

constexpr int64_t kRowCounts[] = {0, 1, 2, 3, 4, 5, 6, 7, 64, 65, 150};

// Every 37th activation is `outlier` times as large as the others.
void CheckErrors(MatMulNBitsFn kernel, const NBitsShape& shape, float outlier, double slack) {
  const Matrix w(shape, 2);
  const int64_t N = shape.N, K = shape.K, lda = K + 3, ldy = N + 5;
  std::vector<Weight> weights;
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t k = 0; k < K; ++k) weights.push_back(w.weight(n, k));
  }
  for (const int64_t M : kRowCounts) {
    SCOPED_TRACE("M " + std::to_string(M));
    std::vector<float> values = RandomFloats(static_cast<std::size_t>(M * lda + 1), 3);
    for (std::size_t i = 5; i < values.size(); i += 37) values[i] *= outlier;
    const float* a = values.data() + 1;  // not aligned
    Guarded<float> y(static_cast<std::size_t>(M * ldy), 1);
    const int64_t middle = shape.strips() / 2;
    kernel(shape, a, M, lda, w.packed(), middle, shape.strips(), y.data(), ldy);
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t n = 0; n < middle * 16; ++n) ASSERT_TRUE(y.Untouched(static_cast<std::size_t>(m * ldy + n)));
    }
    kernel(shape, a, M, lda, w.packed(), 0, middle, y.data(), ldy);
    ErrorRule rule;
    for (int64_t m = 0; m < M; ++m) {
      if (M > 7 && m % 9 != 1) continue;
      for (int64_t n = 0; n < N; ++n) {
        double truth = 0, magnitude = 0;
        float ideal = 0;
        for (int64_t k = 0; k < K; ++k) {
          const Weight& weight = weights[static_cast<std::size_t>(n * K + k)];
          const float x = a[m * lda + k];
          truth += x * weight.value();
          magnitude += std::abs(x * weight.value());
          ideal += x * weight.rounded();
        }
        rule.Add(truth, magnitude, y[static_cast<std::size_t>(m * ldy + n)], ideal);
      }
      for (int64_t n = N; n < ldy; ++n) ASSERT_TRUE(y.Untouched(static_cast<std::size_t>(m * ldy + n)));
    }
    rule.Check(slack);
    EXPECT_TRUE(y.Intact());
  }
}

// Measured: 2.5e-8 beyond twice the ideal, where y has one column and the ideal is lucky.
constexpr double kSlack = 0x1p-24;

TEST_P(MatMulNBitsTest, ErrorIsWithinTwiceThatOfIdealFp32) { CheckErrors(kernel(), shape(), 1.0f, kSlack); }

TEST_P(MatMulNBitsTest, ErrorIsWithinTwiceThatOfIdealFp32BesideOutliers) {
  double slack = kSlack;
#ifdef __x86_64__
  // FusedDQP of AVX2 adds up q x and takes min x back: where a weight near zero, q = 8, meets an outlier, that cancels.
  // Measured: 3.3e-6 beyond twice the ideal.
  if (kernel() == MatMulNBitsAvx2) slack = 4e-6;
#endif
  CheckErrors(kernel(), shape(), 3000.0f, slack);
}

TEST_P(MatMulNBitsTest, SameInputSameBitsHoweverStripsAreSplit) {
  const Matrix w(shape(), 4);
  for (const int64_t M : kRowCounts) {
    const std::vector<float> a = RandomFloats(static_cast<std::size_t>(M * shape().K), 5);
    std::vector<float> whole(static_cast<std::size_t>(M * shape().N)), split = whole;
    kernel()(shape(), a.data(), M, shape().K, w.packed(), 0, shape().strips(), whole.data(), shape().N);
    for (int64_t strip = 0; strip < shape().strips(); ++strip) {
      kernel()(shape(), a.data(), M, shape().K, w.packed(), strip, strip + 1, split.data(), shape().N);
    }
    EXPECT_TRUE(SameBits(whole, split)) << "M " << M;
  }
}

TEST_P(MatMulNBitsTest, APowerOfTwoInIsTheSamePowerOut) {
  const Matrix w(shape(), 4);
  const int64_t N = shape().N, K = shape().K;
  for (const int64_t M : {1, 7}) {
    std::vector<float> a = RandomFloats(static_cast<std::size_t>(M * K), 5);
    std::vector<float> y(static_cast<std::size_t>(M * N)), scaled = y;
    kernel()(shape(), a.data(), M, K, w.packed(), 0, shape().strips(), y.data(), N);
    for (const float factor : {0x1p-60f, 0x1p100f}) {
      std::vector<float> b = a;
      for (float& value : b) value *= factor;
      kernel()(shape(), b.data(), M, K, w.packed(), 0, shape().strips(), scaled.data(), N);
      for (float& value : scaled) value /= factor;
      EXPECT_TRUE(SameBits(y, scaled)) << "M " << M << " factor " << factor;
    }
  }
}

TEST_P(MatMulNBitsTest, NanAndInfinityReachTheirRowOnly) {
  const Matrix w(shape(), 6);
  for (const int64_t M : {1, 2, 7}) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::vector<float> a = RandomFloats(static_cast<std::size_t>(M * shape().K), 7);
      a.back() = bad;
      std::vector<float> y(static_cast<std::size_t>(M * shape().N));
      kernel()(shape(), a.data(), M, shape().K, w.packed(), 0, shape().strips(), y.data(), shape().N);
      for (int64_t i = 0; i < M * shape().N; ++i) {
        EXPECT_EQ(std::isfinite(y[static_cast<std::size_t>(i)]), i / shape().N != M - 1) << "M " << M << " i " << i;
      }
    }
  }
}

TEST_P(MatMulNBitsTest, ZeroScaleAndMinimumGiveZero) {
  std::vector<uint8_t> blocks = RandomBlocks(shape(), 8);
  const auto block_bytes = static_cast<std::size_t>(q4nx::BlockBytes(shape().bits));
  for (std::size_t block = 0; block < blocks.size(); block += block_bytes) {
    std::memset(&blocks[block], 0, shape().bits == 4 ? 1024 : 512);
  }
  const Matrix w(shape(), blocks);
  for (const int64_t M : {1, 6}) {
    const std::vector<float> a = RandomFloats(static_cast<std::size_t>(M * shape().K), 9);
    std::vector<float> y(static_cast<std::size_t>(M * shape().N), 1.0f);
    kernel()(shape(), a.data(), M, shape().K, w.packed(), 0, shape().strips(), y.data(), shape().N);
    for (const float value : y) EXPECT_EQ(value, 0.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Rows, MatMulNBitsTest,
    testing::Combine(testing::ValuesIn(kRows),
                     testing::Values(NBitsShape{16, 32, 4}, NBitsShape{1, 64, 4}, NBitsShape{40, 640, 4},
                                     NBitsShape{37, 1152, 4}, NBitsShape{48, 2048, 4}, NBitsShape{17, 10272, 4},
                                     NBitsShape{16, 32, 8}, NBitsShape{40, 640, 8}, NBitsShape{37, 2048, 8})),
    [](const testing::TestParamInfo<MatMulCase>& info) {
      return std::get<0>(info.param).name + std::string("_") + Describe(std::get<1>(info.param));
    });

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
