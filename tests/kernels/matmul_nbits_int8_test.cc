#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <tuple>

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/q4nx_matrix.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<MatMulNBitsInt8Fn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/matmul_nbits_int8/kernels.inc"
#undef KERNEL
};

std::string Describe(const NBitsShape& shape) {
  std::ostringstream name;
  name << "N" << shape.N << "K" << shape.K << "B" << shape.bits;
  return name.str();
}

std::vector<QuantizedGroup> Quantize(const std::vector<float>& x, int64_t M, int64_t K) {
  std::vector<QuantizedGroup> q(static_cast<std::size_t>(M * K / 32));
  QuantizeRowsReference(x.data(), M, K, K, q.data());
  return q;
}

int CodeOf(const std::vector<QuantizedGroup>& q, int64_t i) {
  return q[static_cast<std::size_t>(i / 32)].code[CodePosition(i % 32)];
}
float ScaleOf(const std::vector<QuantizedGroup>& q, int64_t i) { return q[static_cast<std::size_t>(i / 32)].scale; }

using MatMulCase = std::tuple<KernelRow<MatMulNBitsInt8Fn>, NBitsShape>;

class MatMulNBitsInt8Test : public testing::TestWithParam<MatMulCase> {
 protected:
  void SetUp() override {
    const KernelRow<MatMulNBitsInt8Fn> row = std::get<0>(GetParam());
    if (!row.supported()) GTEST_SKIP() << "this CPU lacks what " << row.name << " needs";
  }
  MatMulNBitsInt8Fn kernel() const { return std::get<0>(GetParam()).fn; }
  NBitsShape shape() const { return std::get<1>(GetParam()); }
};

// Tiles are of up to 8 rows, blocks of 400 and fewer.
constexpr int64_t kRowCounts[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65, 420};

// Every 37th activation is `outlier` times as large as the others.
void CheckErrors(MatMulNBitsInt8Fn kernel, const NBitsShape& shape, float outlier) {
  const Matrix w(shape, 2);
  const int64_t N = shape.N, K = shape.K, ldy = N + 5;
  std::vector<Weight> weights;
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t k = 0; k < K; ++k) weights.push_back(w.weight(n, k));
  }
  for (const int64_t M : kRowCounts) {
    SCOPED_TRACE("M " + std::to_string(M));
    std::vector<float> x = RandomFloats(static_cast<std::size_t>(M * K), 3);
    for (std::size_t i = 5; i < x.size(); i += 37) x[i] *= outlier;
    const std::vector<QuantizedGroup> a = Quantize(x, M, K);
    Guarded<float> y(static_cast<std::size_t>(M * ldy), 1);
    const int64_t middle = shape.strips() / 2;
    kernel(shape, a.data(), M, w.packed(), middle, shape.strips(), y.data(), ldy);
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t n = 0; n < middle * 16; ++n) ASSERT_TRUE(y.Untouched(static_cast<std::size_t>(m * ldy + n)));
    }
    kernel(shape, a.data(), M, w.packed(), 0, middle, y.data(), ldy);
    ErrorRule rule;
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t n = N; n < ldy; ++n) ASSERT_TRUE(y.Untouched(static_cast<std::size_t>(m * ldy + n)));
      if (M > 9 && m % 29 != 1) continue;
      for (int64_t n = 0; n < N; ++n) {
        double truth = 0, magnitude = 0;
        float ideal = 0;
        for (int64_t k = 0; k < K; ++k) {
          const Weight& weight = weights[static_cast<std::size_t>(n * K + k)];
          const float scale = ScaleOf(a, m * K + k);
          const int code = CodeOf(a, m * K + k);
          const double product = static_cast<double>(scale) * code * weight.value();
          truth += product;
          magnitude += std::abs(product);
          ideal += scale * static_cast<float>(code) * weight.rounded();
        }
        rule.Add(truth, magnitude, y[static_cast<std::size_t>(m * ldy + n)], ideal);
      }
    }
    rule.Check(0x1p-24);
    EXPECT_TRUE(y.Intact());
  }
}

TEST_P(MatMulNBitsInt8Test, ErrorIsWithinTwiceThatOfIdealFp32OnTheSameOperands) {
  CheckErrors(kernel(), shape(), 1.0f);
}

TEST_P(MatMulNBitsInt8Test, ErrorIsWithinTwiceThatOfIdealFp32OnTheSameOperandsBesideOutliers) {
  CheckErrors(kernel(), shape(), 3000.0f);
}

TEST_P(MatMulNBitsInt8Test, SameInputSameBitsHoweverStripsAndRowsAreSplit) {
  const Matrix w(shape(), 4);
  const int64_t N = shape().N, K = shape().K;
  for (const int64_t M : kRowCounts) {
    const std::vector<QuantizedGroup> a = Quantize(RandomFloats(static_cast<std::size_t>(M * K), 5), M, K);
    std::vector<float> whole(static_cast<std::size_t>(M * N)), strips = whole, rows = whole;
    kernel()(shape(), a.data(), M, w.packed(), 0, shape().strips(), whole.data(), N);
    for (int64_t strip = 0; strip < shape().strips(); ++strip) {
      kernel()(shape(), a.data(), M, w.packed(), strip, strip + 1, strips.data(), N);
    }
    for (int64_t m = 0; m < M; ++m) {
      kernel()(shape(), a.data() + m * K / 32, 1, w.packed(), 0, shape().strips(), rows.data() + m * N, N);
    }
    EXPECT_TRUE(SameBits(whole, strips)) << "M " << M;
    EXPECT_TRUE(SameBits(whole, rows)) << "M " << M;
  }
}

// The largest integers: 15 * 127 for 4 bits, -128 * 127 for 8.
TEST_P(MatMulNBitsInt8Test, NoIntegerSumOverflows) {
  std::vector<uint8_t> blocks = RandomBlocks(shape(), 6);
  const auto block_bytes = static_cast<std::size_t>(q4nx::BlockBytes(shape().bits));
  for (std::size_t block = 0; block < blocks.size(); block += block_bytes) {
    if (shape().bits == 4) {
      std::memset(&blocks[block + 1024], 0xff, 4096);
    } else {
      std::memset(&blocks[block + 512], 0x80, 8192);
    }
  }
  const Matrix w(shape(), blocks);
  const int64_t N = shape().N, K = shape().K;
  for (const float value : {1.0f, -1.0f}) {
    for (const int64_t M : {1, 8}) {
      const std::vector<QuantizedGroup> a = Quantize(std::vector<float>(static_cast<std::size_t>(M * K), value), M, K);
      std::vector<float> y(static_cast<std::size_t>(M * N));
      kernel()(shape(), a.data(), M, w.packed(), 0, shape().strips(), y.data(), N);
      for (int64_t i = 0; i < M * N; ++i) {
        double truth = 0, magnitude = 0;
        for (int64_t k = 0; k < K; ++k) {
          const Weight weight = w.weight(i % N, k);
          truth += static_cast<double>(ScaleOf(a, k)) * CodeOf(a, k) * weight.value();
          magnitude += std::abs(weight.scale * static_cast<float>(weight.code)) + std::abs(weight.min);
        }
        EXPECT_NEAR(y[static_cast<std::size_t>(i)], truth, magnitude * 1e-6) << "value " << value << " i " << i;
      }
    }
  }
}

TEST_P(MatMulNBitsInt8Test, NanAndInfinityReachTheirRowOnly) {
  const Matrix w(shape(), 6);
  const int64_t N = shape().N, K = shape().K;
  for (const int64_t M : {1, 2, 7, 9}) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::vector<float> x = RandomFloats(static_cast<std::size_t>(M * K), 7);
      x.back() = bad;
      const std::vector<QuantizedGroup> a = Quantize(x, M, K);
      std::vector<float> y(static_cast<std::size_t>(M * N));
      kernel()(shape(), a.data(), M, w.packed(), 0, shape().strips(), y.data(), N);
      for (int64_t i = 0; i < M * N; ++i) {
        EXPECT_EQ(std::isnan(y[static_cast<std::size_t>(i)]), i / N == M - 1) << "M " << M << " i " << i;
      }
    }
  }
}

TEST_P(MatMulNBitsInt8Test, ZeroScaleAndMinimumGiveZero) {
  std::vector<uint8_t> blocks = RandomBlocks(shape(), 8);
  const auto block_bytes = static_cast<std::size_t>(q4nx::BlockBytes(shape().bits));
  for (std::size_t block = 0; block < blocks.size(); block += block_bytes) {
    std::memset(&blocks[block], 0, shape().bits == 4 ? 1024 : 512);
  }
  const Matrix w(shape(), blocks);
  const int64_t N = shape().N, K = shape().K;
  for (const int64_t M : {1, 6}) {
    const std::vector<QuantizedGroup> a = Quantize(RandomFloats(static_cast<std::size_t>(M * K), 9), M, K);
    std::vector<float> y(static_cast<std::size_t>(M * N), 1.0f);
    kernel()(shape(), a.data(), M, w.packed(), 0, shape().strips(), y.data(), N);
    for (const float value : y) EXPECT_EQ(value, 0.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, MatMulNBitsInt8Test,
                         testing::Combine(testing::ValuesIn(kRows),
                                          testing::Values(FastShape({16, 32, 4}), FastShape({1, 64, 4}),
                                                          FastShape({40, 640, 4}), FastShape({37, 1152, 4}),
                                                          FastShape({17, 10272, 4}), NBitsShape{16, 32, 8},
                                                          NBitsShape{40, 640, 8}, NBitsShape{37, 2048, 8})),
                         [](const testing::TestParamInfo<MatMulCase>& info) {
                           return std::get<0>(info.param).name + std::string("_") + Describe(std::get<1>(info.param));
                         });

// --- The min term (matmul_nbits_int8.h) ------------------------------------------------------------------------------

TEST(MinTermTest, TheSumOfTheCodesHasLessThanHalfTheErrorOfTheExactSum) {
  constexpr int64_t kM = 40, kK = 640;
  const NBitsShape shape = FastShape({64, kK, 4});
  // Weights of a normal distribution: q about 7.5 with a deviation of 3, min = -7.5 scale.
  std::vector<uint8_t> blocks = RandomBlocks(shape, 10);
  const std::vector<float> normal = RandomFloats(blocks.size() * 2, 11, 3.0f);
  const auto nibble = [&](std::size_t i) {
    return static_cast<uint8_t>(std::clamp(std::lround(normal[i] + 7.5f), 0l, 15l));
  };
  for (std::size_t block = 0; block < blocks.size(); block += q4nx::kBlockBytes4) {
    for (std::size_t i = block + q4nx::kNibbleOffset; i < block + q4nx::kBlockBytes4; ++i) {
      blocks[i] = static_cast<uint8_t>(nibble(2 * i) | nibble(2 * i + 1) << 4);
    }
  }
  const Matrix w(shape, blocks);
  const std::vector<float> x = RandomFloats(kM * kK, 12);
  const std::vector<QuantizedGroup> a = Quantize(x, kM, kK);
  std::vector<float> y(static_cast<std::size_t>(kM * shape.N));
  SelectMatMulNBitsInt8()(shape, a.data(), kM, w.packed(), 0, shape.strips(), y.data(), shape.N);
  double of_codes = 0, of_x = 0;
  for (int64_t m = 0; m < kM; ++m) {
    for (int64_t n = 0; n < shape.N; ++n) {
      double truth = 0, exact_sum = 0;
      for (int64_t k = 0; k < kK; ++k) {
        const Weight weight = w.weight(n, k);
        const auto value = static_cast<double>(x[static_cast<std::size_t>(m * kK + k)]);
        truth += value * weight.value();
        exact_sum += static_cast<double>(ScaleOf(a, m * kK + k)) * CodeOf(a, m * kK + k) * weight.scale * weight.code +
                     value * weight.min;
      }
      const double kernel = static_cast<double>(y[static_cast<std::size_t>(m * shape.N + n)]);
      of_codes += (kernel - truth) * (kernel - truth);
      of_x += (exact_sum - truth) * (exact_sum - truth);
    }
  }
  EXPECT_LT(2 * std::sqrt(of_codes), std::sqrt(of_x)) << "ratio " << std::sqrt(of_x / of_codes);
}

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
