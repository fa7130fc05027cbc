#include "kernels/kv_store/kv_store.h"

#include <limits>

#include "kernels/float16.h"
#include "tests/kernels/kernel_test.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<KvStoreFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/kv_store/kernels.inc"
#undef KERNEL
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The value of a finite fp16 from its fields.
double Value(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}

class KvStoreTest : public KernelRowTest<KvStoreFn> {
 protected:
  std::vector<uint16_t> Halves(const std::vector<float>& x) const {
    std::vector<uint16_t> y(x.size());
    kernel()(x.data(), static_cast<int64_t>(x.size()), KvType::kFloat16, y.data());
    return y;
  }
};

TEST_P(KvStoreTest, EveryFiniteHalfComesBack) {
  std::vector<float> x;
  std::vector<uint16_t> expected;
  for (uint32_t h = 0; h < 0x10000; ++h) {
    if ((h & 0x7c00) == 0x7c00) continue;
    expected.push_back(static_cast<uint16_t>(h));
    x.push_back(static_cast<float>(Value(static_cast<uint16_t>(h))));
    ASSERT_EQ(Float16ToFloat(static_cast<uint16_t>(h)), x.back());
  }
  EXPECT_EQ(Halves(x), expected);
}

TEST_P(KvStoreTest, RoundsToNearestAndTiesToEven) {
  std::vector<float> x;
  std::vector<uint16_t> expected;
  for (uint16_t h = 0; h < 0x7bff; ++h) {  // between h and the next half
    const auto next = static_cast<uint16_t>(h + 1);
    const auto middle = static_cast<float>((Value(h) + Value(next)) / 2);
    x.insert(x.end(), {std::nextafter(middle, 0.0f), middle, std::nextafter(middle, kInfinity), -middle});
    const uint16_t even = h % 2 == 0 ? h : next;
    expected.insert(expected.end(), {h, even, next, static_cast<uint16_t>(even | 0x8000)});
  }
  EXPECT_EQ(Halves(x), expected);
}

TEST_P(KvStoreTest, OverflowIsInfinityAndNanStaysNan) {
  const float below = std::nextafter(65520.0f, 0.0f);
  EXPECT_EQ(Halves({below, 65520.0f, -65520.0f, 1e30f, kInfinity, -kInfinity, 1e-10f, -1e-10f}),
            (std::vector<uint16_t>{0x7bff, 0x7c00, 0xfc00, 0x7c00, 0x7c00, 0xfc00, 0x0000, 0x8000}));
  const uint16_t nan = Halves({std::numeric_limits<float>::quiet_NaN()})[0];
  EXPECT_EQ(nan & 0x7c00, 0x7c00);
  EXPECT_NE(nan & 0x03ff, 0);
  EXPECT_TRUE(std::isnan(Float16ToFloat(nan)));
  EXPECT_EQ(Float16ToFloat(0xfc00), -kInfinity);
}

TEST_P(KvStoreTest, AnyLengthAndAlignment) {
  for (std::size_t n = 0; n < 40; ++n) {
    const std::vector<float> x = RandomFloats(n + 1, 1);
    Guarded<uint16_t> half(n, 1);
    Guarded<float> single(n, 1);
    kernel()(x.data() + 1, static_cast<int64_t>(n), KvType::kFloat16, half.data());
    kernel()(x.data() + 1, static_cast<int64_t>(n), KvType::kFloat32, single.data());
    EXPECT_TRUE(half.Intact() && single.Intact()) << "n " << n;
    EXPECT_TRUE(SameBits(single.values(), std::vector<float>(x.begin() + 1, x.end()))) << "n " << n;
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(half[i], FloatToFloat16(x[i + 1])) << "n " << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, KvStoreTest, testing::ValuesIn(kRows), RowName<KvStoreFn>);

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
