// Times a bench's loop and shows its rate and the share of the roofline that it is; with two threads, both together.
// google-benchmark's own rates are not used: with several threads it divides by a time that is an average over them.
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>

#include "kernels/cpu_features.h"
#include "tests/kernels/bench/roofline.h"

namespace ryzen_npu_gemma::kernels {

// Calls step() as often as the library wants; gives the seconds of one call.
template <typename Step>
double SecondsPerCall(benchmark::State& state, Step step) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) step();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return seconds.count() / static_cast<double>(state.iterations());
}

// `bytes` are those that a call of this thread had to read from memory.
inline void ShowBandwidth(benchmark::State& state, int64_t bytes, double seconds) {
  const double rate = static_cast<double>(bytes) / seconds;
  state.counters["GB/s"] = rate / 1e9;
  state.counters["% of read"] = rate / ReadBytesPerSecond(state.threads()) * 100;
}

// `peak` is a row of PeakRows(); without one (portable code) no share is shown.
inline void ShowOperations(benchmark::State& state, int64_t operations, double seconds, const char* peak) {
  const double rate = static_cast<double>(operations) / seconds;
  state.counters["Gop/s"] = rate / 1e9;
  const double most = peak != nullptr ? PeakOpsPerSecond(peak, state.threads()) : 0;
  if (most > 0) state.counters["% of peak"] = rate / most * 100;
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
