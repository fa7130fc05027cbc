// What the machine can do at most, measured: the bandwidth of reading memory, and the rate of the multiply-adds that
// the kernels are made of. The benches of kernels show what share of it they reach.
#pragma once

#include <cstdint>

namespace ryzen_npu_gemma::kernels {

// One step of one thread over instructions that wait for nothing but their unit; gives the operations done, a
// multiply-add counting as two.
struct PeakRow {
  const char* name;
  uint32_t required;  // as in cpu_features.h
  int64_t (*run)(int64_t repetitions);

  bool supported() const;
};

// By instruction set and arithmetic: "avx2 fp32", "avx2 int8", "avx2 int8, 16-bit sums", "avx512 fp32", "avx512 bf16",
// "avx512 vnni".
const PeakRow* PeakRows();
int PeakRowCount();

// Sums up memory; gives the sum, which is of use to nobody, so that the reading is not optimised away.
uint64_t ReadAll(const uint8_t* begin, const uint8_t* end);

// Measure for a number of threads, unless it is done: the best of several passes. Not thread-safe.
void MeasureReading(int threads);
void MeasurePeaks(int threads);

// What was measured.
double ReadBytesPerSecond(int threads);
double PeakOpsPerSecond(const char* name, int threads);  // 0 when this CPU lacks the row

}  // namespace ryzen_npu_gemma::kernels
