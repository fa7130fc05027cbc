// Shows a bench's rate and the share of the roofline that it is.
#pragma once

#include <benchmark/benchmark.h>

#include <cstring>
#include <string>

#include "kernels/cpu_features.h"
#include "tests/kernels/bench/roofline.h"

namespace ryzen_npu_gemma::kernels {

// `bytes` are those that an iteration of this thread had to read from memory.
inline void ShowBandwidth(benchmark::State& state, int64_t bytes) {
  const double done = static_cast<double>(bytes) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(done / 1e9, benchmark::Counter::kIsRate);
  const double peak = ReadBytesPerSecond(state.threads());
  state.counters["% of read"] = benchmark::Counter(done / peak * 100, benchmark::Counter::kIsRate);
}

// `peak` is a row of PeakRows(); without one (portable code) no share is shown.
inline void ShowOperations(benchmark::State& state, int64_t operations, const char* peak) {
  const double done = static_cast<double>(operations) * static_cast<double>(state.iterations());
  state.counters["Gop/s"] = benchmark::Counter(done / 1e9, benchmark::Counter::kIsRate);
  const double most = peak != nullptr ? PeakOpsPerSecond(peak, state.threads()) : 0;
  if (most > 0) state.counters["% of peak"] = benchmark::Counter(done / most * 100, benchmark::Counter::kIsRate);
}

// The peak that a row's multiply-adds run up against.
inline const char* Fp32Peak(uint32_t required) {
  return required & kAvx512Vnni ? "avx512 fp32" : required & kAvx2 ? "avx2 fp32" : nullptr;
}
inline const char* Int8Peak(uint32_t required, int bits) {
  if (required & kAvx512Vnni) return "avx512 vnni";
  return !(required & kAvx2) ? nullptr : bits == 4 ? "avx2 int8, 16-bit sums" : "avx2 int8";
}

}  // namespace ryzen_npu_gemma::kernels
