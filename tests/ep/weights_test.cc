// The weight store: one copy for all that read the same bytes of a file, none shared between different ones.
#include "ep/src/weights.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "ep/src/error.h"
#include "tests/ep/graph_builder.h"

namespace ryzen_npu_gemma::ep {
namespace {

constexpr kernels::NBitsShape kShape{64, 96, 4};

class Weights : public testing::Test {
 protected:
  const std::filesystem::path file_ =
      std::filesystem::temp_directory_path() / ("weights." + std::to_string(::getpid()));
  GraphBuilder builder_;
  WeightStore store_;

  void SetUp() override {
    builder_.Matrix("w", kShape.N, kShape.K);
    builder_.RandomWeights();
    WriteFile(50);
  }
  void TearDown() override { std::filesystem::remove(file_); }

  // The matrix' bytes, `copies` times.
  void WriteFile(int copies) const {
    std::ofstream file(file_, std::ios::binary);
    const ConstantData& bytes = builder_.graph.values[0].constant;
    for (int i = 0; i < copies; ++i)
      file.write(static_cast<const char*>(bytes.data), static_cast<std::streamsize>(bytes.bytes));
  }

  int64_t Bytes() const { return static_cast<int64_t>(builder_.graph.values[0].constant.bytes); }

  Value At(const std::string& path, int64_t offset) const {
    Value value = builder_.graph.values[0];
    value.external = {path, offset, value.constant.bytes};
    return value;
  }
};

TEST_F(Weights, SameBytesOfAFileArePackedOnce) {
  const auto first = store_.Get(At(file_, 0), kShape);
  EXPECT_EQ(first, store_.Get(At(file_, 0), kShape));
  EXPECT_NE(first, store_.Get(At(file_, Bytes()), kShape));
  EXPECT_NE(first, store_.Get(At("", 0), kShape));  // inside a model: nobody can tell that it is the same
}

TEST_F(Weights, OtherParametersAreAnotherCopy) {
  const auto exact = store_.Get(At(file_, 0), kShape), fast = store_.Get(At(file_, 0), kernels::FastShape(kShape));
  EXPECT_NE(fast, exact);
  EXPECT_EQ(fast, store_.Get(At(file_, 0), kernels::FastShape(kShape)));
}

TEST_F(Weights, AFileThatChangedIsPackedAgain) {
  const auto first = store_.Get(At(file_, 0), kShape);
  WriteFile(2);
  EXPECT_NE(first, store_.Get(At(file_, 0), kShape));
}

TEST_F(Weights, AreForgottenWithTheirLastUser) {
  std::weak_ptr<const PackedMatrix> gone = store_.Get(At(file_, 0), kShape);
  EXPECT_TRUE(gone.expired());
}

// Many matrices: side by side, aligned, and each what a matrix of its own would be.
TEST_F(Weights, LieSideBySideWithoutOverlap) {
  std::vector<uint8_t> expected(static_cast<std::size_t>(kShape.packed_bytes()));
  kernels::PackStrips(kShape, static_cast<const uint8_t*>(At("", 0).constant.data), 0, kShape.strips(),
                      expected.data());
  std::vector<std::shared_ptr<const PackedMatrix>> all;
  for (int i = 0; i < 50; ++i) all.push_back(store_.Get(At(file_, i * Bytes()), kShape));
  for (const auto& matrix : all) {
    EXPECT_EQ(matrix->slab, all[0]->slab);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(matrix->data) % 64, 0u);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), matrix->data));
  }
}

// Several workers, pieces of a file, and rows and columns that do not fill a block.
TEST_F(Weights, AreReadFromTheFile) {
  for (const kernels::NBitsShape shape :
       {kernels::NBitsShape{5000, 1184, 4}, kernels::FastShape({5000, 1184, 4}), kernels::NBitsShape{1500, 2080, 8}}) {
    GraphBuilder builder;
    builder.Matrix("w", shape.N, shape.K, shape.bits);
    builder.RandomWeights();
    const ConstantData& bytes = builder.graph.values[0].constant;
    std::ofstream(file_, std::ios::binary)
        << "before " << std::string(static_cast<const char*>(bytes.data), bytes.bytes);
    Value in_file = builder.graph.values[0];
    in_file.external = {file_, 7, bytes.bytes};
    const auto packed = store_.Get(in_file, shape), expected = store_.Get(builder.graph.values[0], shape);
    EXPECT_TRUE(std::equal(packed->data, packed->data + shape.packed_bytes(), expected->data)) << shape.N;
  }
}

TEST_F(Weights, AFileThatIsTooShortIsRefused) {
  EXPECT_THROW(store_.Get(At(file_, 49 * Bytes() + 1), kShape), Error);
  EXPECT_THROW(store_.Get(At(file_, int64_t{1} << 40), kShape), Error);
}

TEST_F(Weights, WrongSizeIsRefused) { EXPECT_THROW(store_.Get(At(file_, 0), {128, 96, 4}), Error); }

}  // namespace
}  // namespace ryzen_npu_gemma::ep
