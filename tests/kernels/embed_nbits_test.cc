#include "kernels/embed_nbits/embed_nbits.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/q4nx_matrix.h"

namespace ryzen_npu_gemma::kernels {
namespace {

TEST(EmbedRowTest, IsTheScaledRowOfTheMatrix) {
  const float scale = std::sqrt(640.0f);
  for (const NBitsShape& shape : {NBitsShape{37, 640, 4}, FastShape({37, 640, 4}), NBitsShape{37, 640, 8}}) {
    const Matrix w(shape, 1);
    for (int64_t row = 0; row < 37; ++row) {
      SCOPED_TRACE(testing::Message() << "bits " << shape.bits << " strip of " << shape.strip_bytes() << " row "
                                      << row);
      Guarded<float> y(640, 1);
      EmbedRow(w.shape(), w.packed(), row, scale, y.data());
      for (int64_t k = 0; k < 640; ++k) {
        const Weight weight = w.weight(row, k);
        const double magnitude = scale * (std::abs(static_cast<double>(weight.scale) * weight.code) +
                                          std::abs(static_cast<double>(weight.min)));
        // Three roundings: the product, the sum, the scale.
        ASSERT_NEAR(y[static_cast<std::size_t>(k)], scale * weight.value(), 3 * 0x1p-24 * magnitude) << "k " << k;
      }
      EXPECT_TRUE(y.Intact());
    }
  }
}

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
