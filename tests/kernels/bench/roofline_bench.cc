// The roofline itself: what all other benches of this program are measured against.
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>

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
