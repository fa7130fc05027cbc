// Chains: the same bits as one step after the other, in either form of quantised activations.
#include "ep/src/device/row_chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/ep/backward_threads.h"

namespace ryzen_npu_gemma::ep {
namespace {

constexpr int64_t kWidth = 128, kRows = 60;
constexpr float kUntouched = -7;

// A layer's steps between two products, and those between the next two.
struct Memory {
  std::vector<float> down, residual, normed, sum, norm, gated, gelu;
  std::vector<kernels::QuantizedGroup> groups;
  std::vector<kernels::RotatedSpan> spans;

  Memory() : groups(kRows * kWidth / 32), spans(kRows * kWidth / kernels::kSpanColumns) {
    for (auto* rows : {&down, &residual, &normed, &sum, &norm, &gated, &gelu}) rows->assign(kRows * kWidth, kUntouched);
    for (std::size_t i = 0; i < down.size(); ++i) {
      down[i] = std::sin(static_cast<float>(i));
      residual[i] = std::cos(static_cast<float>(i) * 0.7f);
    }
  }
};

const RmsNorm kNorm{{}, std::vector<float>(kWidth, 1.25f), 1e-6f, {}};
const Elementwise kAdd{false, {}, {}, {}}, kMultiply{true, {}, {}, {}};
const Gelu kGelu{};
const GeluMul kGeluMul{};
const MatMul kProduct{};

std::vector<RowStep> Steps(Memory& m, bool rotated, bool passing) {
  const auto in = [&](std::vector<float>& rows, bool pass) {
    return Rows<const float>{rows.data(), kWidth, pass && passing};
  };
  const auto out = [&](std::vector<float>& rows, bool pass) {
    return Rows<float>{rows.data(), kWidth, pass && passing};
  };
  const ProductInput quantized = rotated ? ProductInput(m.spans.data()) : ProductInput(m.groups.data());
  return {{.launch = &kNorm, .a = in(m.down, false), .y = out(m.normed, true)},
          {.launch = &kAdd, .a = in(m.residual, false), .b = in(m.normed, true), .y = out(m.sum, false)},
          {.launch = &kNorm, .a = in(m.sum, false), .y = out(m.norm, true)},
          {.launch = &kGeluMul, .a = in(m.norm, true), .b = in(m.sum, false), .y = out(m.gated, true)},
          {.launch = &kGelu, .a = in(m.gated, true), .y = out(m.gelu, true)},
          {.launch = &kMultiply, .a = in(m.gelu, true), .b = in(m.down, false), .y = out(m.gated, true)},
          {.launch = &kProduct, .a = in(m.gated, true), .quantized = quantized}};
}

template <class T>
bool SameBytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

TEST(RowChain, IsOneStepAfterTheOther) {
  for (const int64_t rows : {int64_t{1}, int64_t{7}, kRows})
    for (const bool rotated : {false, true})
      for (const bool passing : {false, true}) {
        SCOPED_TRACE(testing::Message() << rows << " rows, rotated " << rotated << ", passing " << passing);
        BackwardThreads threads;
        Memory chain, apart;
        RunChain(Steps(chain, rotated, passing), rows, threads);
        for (const RowStep& step : Steps(apart, rotated, false)) RunChain({step}, rows, threads);
        EXPECT_TRUE(SameBytes(chain.sum, apart.sum));
        EXPECT_TRUE(SameBytes(chain.groups, apart.groups));
        EXPECT_TRUE(SameBytes(chain.spans, apart.spans));
        EXPECT_NE(chain.sum[rows * kWidth - 1], kUntouched);
        EXPECT_NE(rotated ? chain.spans[0].scale : chain.groups[0].scale, 0);
      }
}

TEST(RowChain, WhatPassesIsWrittenOverTheFirstRowsOfARange) {
  BackwardThreads threads;
  Memory m;
  RunChain(Steps(m, true, true), kRows, threads);
  for (const auto* rows : {&m.normed, &m.norm, &m.gated, &m.gelu}) {
    EXPECT_NE(rows->front(), kUntouched);
    EXPECT_GE(std::count(rows->begin(), rows->end(), kUntouched), kRows / 2 * kWidth);
  }
}

TEST(RowChain, IsNamedByItsSteps) {
  Memory m;
  EXPECT_EQ(NameOf(Steps(m, true, true)), "norm, add, norm, gelu, gelu, multiply, quantise");
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
