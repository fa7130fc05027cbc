#include "kernels/cpu_features.h"

#include <gtest/gtest.h>

#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"

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

TEST(SelectTest, AMachineRunsTheRowOfItsBestInstructionSet) {
#ifdef __x86_64__
  if (CpuFeatures() & kAvx512Vnni) {
    EXPECT_TRUE(CpuFeatures() & kAvx2);  // kernels of the former call those of the latter
    EXPECT_EQ(SelectMatMulNBits(), MatMulNBitsAvx512Vnni);
    EXPECT_EQ(SelectMatMulNBitsInt8(), MatMulNBitsInt8Avx512Vnni);
  } else if (CpuFeatures() & kAvx2) {
    EXPECT_EQ(SelectMatMulNBits(), MatMulNBitsAvx2);
    EXPECT_EQ(SelectMatMulNBitsInt8(), MatMulNBitsInt8Avx2);
  } else {
    EXPECT_EQ(SelectMatMulNBits(), MatMulNBitsReference);
    EXPECT_EQ(SelectMatMulNBitsInt8(), MatMulNBitsInt8Reference);
  }
#else
  EXPECT_EQ(SelectMatMulNBits(), MatMulNBitsReference);
#endif
}

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
