// What the kernel tests share: random operands, buffers with canaries, and the accuracy rule.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

inline std::vector<float> RandomFloats(std::size_t n, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

// n values between two rows of canaries, starting `misalign` values off a 64-byte boundary.
template <typename T>
class Guarded {
 public:
  explicit Guarded(std::size_t n, std::size_t misalign = 0) : n_(n), begin_(kCanaries + misalign) {
    bytes_.assign((begin_ + n + kCanaries) * sizeof(T) + 64, kPattern);
    base_ = bytes_.data() + (64 - reinterpret_cast<std::uintptr_t>(bytes_.data()) % 64);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return reinterpret_cast<T*>(base_) + begin_; }
  T& operator[](std::size_t i) { return data()[i]; }
  std::vector<T> values() { return std::vector<T>(data(), data() + n_); }

  // Still the pattern that the constructor wrote?
  bool Untouched(std::size_t i) { return IsPattern(reinterpret_cast<const uint8_t*>(data() + i), sizeof(T)); }
  bool Intact() {
    const auto* end = reinterpret_cast<const uint8_t*>(data() + n_);
    return IsPattern(bytes_.data(), static_cast<std::size_t>(reinterpret_cast<uint8_t*>(data()) - bytes_.data())) &&
           IsPattern(end, static_cast<std::size_t>(bytes_.data() + bytes_.size() - end));
  }

 private:
  static constexpr std::size_t kCanaries = 64;
  static constexpr uint8_t kPattern = 0xa5;

  static bool IsPattern(const uint8_t* p, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      if (p[i] != kPattern) return false;
    }
    return true;
  }

  std::size_t n_;
  std::size_t begin_;
  std::vector<uint8_t> bytes_;
  uint8_t* base_ = nullptr;
};

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// The accuracy rule: a kernel's largest error is at most twice that of ideal fp32 arithmetic, plus `slack`. Errors are
// relative to the magnitude of what was added up, so that cancellation is charged to nobody.
class ErrorRule {
 public:
  void Add(double truth, double magnitude, float kernel, float ideal) {
    if (magnitude == 0) {
      EXPECT_EQ(kernel, truth);
      return;
    }
    kernel_ = Larger(kernel_, std::abs(kernel - truth) / magnitude);
    ideal_ = Larger(ideal_, std::abs(ideal - truth) / magnitude);
  }

  void Check(double slack) const {
    EXPECT_LE(kernel_, 2 * ideal_ + slack) << "error of the kernel " << kernel_ << ", of ideal fp32 " << ideal_;
    if (std::getenv("RYZEN_NPU_GEMMA_PRINT_ERRORS") != nullptr) {
      std::printf("    error of the kernel %.3g, of ideal fp32 %.3g\n", kernel_, ideal_);
    }
  }

 private:
  static double Larger(double a, double b) { return b > a || std::isnan(b) ? b : a; }

  double kernel_ = 0;
  double ideal_ = 0;
};

// A test of one row of a kernels.inc; the rows that this machine cannot run are skipped with the reason.
template <typename Fn>
class KernelRowTest : public testing::TestWithParam<KernelRow<Fn>> {
 protected:
  void SetUp() override {
    if (!this->GetParam().supported()) GTEST_SKIP() << "this CPU lacks what " << this->GetParam().name << " needs";
  }
  Fn kernel() const { return this->GetParam().fn; }
};

template <typename Fn>
std::string RowName(const testing::TestParamInfo<KernelRow<Fn>>& info) {
  return info.param.name;
}

template <typename Fn>
void PrintTo(const KernelRow<Fn>& row, std::ostream* os) {
  *os << row.name;
}

}  // namespace ryzen_npu_gemma::kernels
