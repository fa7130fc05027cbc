#include "kernels/elementwise/elementwise.h"

#include "tests/kernels/kernel_test.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<ElementwiseFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/elementwise/kernels.inc"
#undef KERNEL
};

class ElementwiseTest : public KernelRowTest<ElementwiseFn> {};

TEST_P(ElementwiseTest, AnyLengthAndAlignmentAndInPlace) {
  for (const bool multiply : {false, true}) {
    for (std::size_t n = 0; n < 40; ++n) {
      SCOPED_TRACE(testing::Message() << (multiply ? "multiply" : "add") << " n " << n);
      const std::vector<float> a = RandomFloats(n + 1, 1), b = RandomFloats(n + 1, 2);
      Guarded<float> y(n, 1), over_a(n, 3), over_b(n, 2);
      std::copy_n(a.data() + 1, n, over_a.data());
      std::copy_n(b.data() + 1, n, over_b.data());
      const auto length = static_cast<int64_t>(n);
      kernel()(multiply, a.data() + 1, b.data() + 1, length, y.data());
      kernel()(multiply, over_a.data(), b.data() + 1, length, over_a.data());
      kernel()(multiply, a.data() + 1, over_b.data(), length, over_b.data());
      for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(y[i], multiply ? a[i + 1] * b[i + 1] : a[i + 1] + b[i + 1]) << i;
      EXPECT_TRUE(SameBits(y.values(), over_a.values()) && SameBits(y.values(), over_b.values()));
      EXPECT_TRUE(y.Intact() && over_a.Intact() && over_b.Intact());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, ElementwiseTest, testing::ValuesIn(kRows), RowName<ElementwiseFn>);

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
