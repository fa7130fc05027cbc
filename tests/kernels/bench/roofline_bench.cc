// The roofline itself: what all other benches of this program are measured against.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

#include "kernels/aligned_buffer.h"
#include "tests/kernels/bench/roofline.h"

namespace ryzen_npu_gemma::kernels {
namespace {

void ReadBandwidth(benchmark::State& state) {
  const int team = static_cast<int>(state.range(0));
  for (auto _ : state) MeasureReading(team);
  state.counters["GB/s"] = ReadBytesPerSecond(team) / 1e9;
}
BENCHMARK(ReadBandwidth)->ArgName("team")->Arg(1)->Arg(2)->Iterations(1);

// A line of memory to another core and back. Cores of one L3 take some 80 ns here; a virtual machine's may be on two.
void LineRoundTrip(benchmark::State& state) {
  constexpr int64_t kTrips = 100'000;
  alignas(64) std::atomic<int64_t> line = 0;  // odd: the other core's turn
  std::thread other([&line] {
    for (int64_t trip = 0; trip < kTrips; ++trip) {
      while (line.load(std::memory_order_acquire) != 2 * trip + 1) continue;
      line.store(2 * trip + 2, std::memory_order_release);
    }
  });
  int64_t trip = 0;
  for (auto _ : state) {
    line.store(2 * trip + 1, std::memory_order_release);
    while (line.load(std::memory_order_acquire) != 2 * trip + 2) continue;
    ++trip;
  }
  other.join();
}
BENCHMARK(LineRoundTrip)->Iterations(100'000)->UseRealTime();

const bool kRegistered = [] {
  for (int i = 0; i < PeakRowCount(); ++i) {
    const PeakRow& row = PeakRows()[i];
    if (!row.supported()) continue;
    benchmark::RegisterBenchmark((std::string("Peak/") + row.name).c_str(),
                                 [&row](benchmark::State& state) {
                                   const int team = static_cast<int>(state.range(0));
                                   for (auto _ : state) MeasurePeaks(team);
                                   state.counters["Gop/s"] = PeakOpsPerSecond(row.name, team) / 1e9;
                                 })
        ->ArgName("team")
        ->Arg(1)
        ->Arg(2)
        ->Iterations(1);
  }
  return true;
}();

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
