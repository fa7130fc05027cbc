#include "kernels/cpu_features.h"

#include <gtest/gtest.h>

#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr uint32_t kNoCpuHasThis = 1u << 31;

int Best() { return 1; }
int Second() { return 2; }
int Last() { return 3; }

TEST(FirstSupportedTest, TakesTheBestRowThatTheMachineRuns) {
  const KernelRow<int (*)()> rows[] = {{"Best", kAnyCpu, Best}, {"Last", kAnyCpu, Last}};
  EXPECT_EQ(FirstSupported(rows)(), 1);
}

TEST(FirstSupportedTest, PassesOverRowsThatItDoesNotRun) {
  const KernelRow<int (*)()> rows[] = {
      {"Best", kNoCpuHasThis, Best}, {"Second", CpuFeatures(), Second}, {"Last", kAnyCpu, Last}};
  EXPECT_FALSE(rows[0].supported());
  EXPECT_EQ(FirstSupported(rows)(), 2);
}

TEST(SelectTest, AnAvx2MachineRunsTheAvx2Row) {
#ifdef __x86_64__
  if ((CpuFeatures() & kAvx2) == 0) {
    EXPECT_EQ(SelectMatMulNBits(), MatMulNBitsReference);
  } else {
    EXPECT_EQ(SelectMatMulNBits(), MatMulNBitsAvx2);
  }
#else
  EXPECT_EQ(SelectMatMulNBits(), MatMulNBitsReference);
#endif
}

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
