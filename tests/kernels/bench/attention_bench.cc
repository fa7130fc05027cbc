// FlowAccumulate, every row of its table: one position and the four heads of its group (FlowKV, bound by memory), and
// the tile of positions that the host device makes of a prompt (FlowQKV, bound by arithmetic).
#include <benchmark/benchmark.h>

#include <memory>
#include <string>

#include "tests/kernels/bench/operands.h"
#include "tests/kernels/bench/rates.h"
#include "tests/kernels/bench/tables.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr int64_t kGroup = 4;  // query heads to a KV head, as in 270M and 1B

const char* AttentionPeak(uint32_t required) { return required & kAvx512Bf16 ? "avx512 bf16" : Fp32Peak(required); }

void Run(benchmark::State& state, const KernelRow<FlowAccumulateFn>& row) {
  const int64_t positions = state.range(0), keys = state.range(1);
  AttentionOperands operands(positions, kGroup, keys);  // each thread has a KV head of its own
  const double seconds = SecondsPerCall(state, [&] { operands.Run(row.fn); });
  if (positions == 1) return ShowBandwidth(state, 2 * keys * kHeadDim * 2, seconds);
  const int64_t seen = positions * keys - positions * (positions - 1) / 2;  // keys of all positions, causal
  ShowOperations(state, 2 * 2 * seen * kGroup * kHeadDim, seconds, AttentionPeak(row.required));
}

const bool kRegistered = [] {
  for (const KernelRow<FlowAccumulateFn>& row : kFlowAccumulateRows) {
    if (!row.supported() || row.required == kAnyCpu) continue;
    benchmark::RegisterBenchmark(row.name, [&row](benchmark::State& state) { Run(state, row); })
        ->ArgNames({"positions", "keys"})
        ->Args({1, 512})     // a sliding layer; stays in L2
        ->Args({1, 262144})  // so many that they come from memory
        ->Args({8, 512})
        ->Args({8, 4096})
        ->Setup([](const benchmark::State& state) {
          MeasureReading(state.threads());
          MeasurePeaks(state.threads());
        })
        ->ThreadRange(1, 2)
        ->UseRealTime();
  }
  return true;
}();

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
