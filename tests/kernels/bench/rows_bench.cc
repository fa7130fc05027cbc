// The kernels that go through activations element by element, every row of their tables, on a width of Gemma3-1B.
// They run out of L1 and L2: what they cost beside the matrices is what is of interest, not their share of a roofline.
#include <benchmark/benchmark.h>

#include "tests/kernels/bench/operands.h"
#include "tests/kernels/bench/tables.h"

namespace ryzen_npu_gemma::kernels {
namespace {

template <typename Fn, std::size_t kRows>
void Register(const KernelRow<Fn> (&rows)[kRows], int64_t width) {
  for (const KernelRow<Fn>& row : rows) {
    if (!row.supported() || row.required == kAnyCpu) continue;
    benchmark::RegisterBenchmark(row.name,
                                 [&row, width](benchmark::State& state) {
                                   RowOperands operands(state.range(0), width);
                                   for (auto _ : state) operands.Run(row.fn);
                                   state.SetItemsProcessed(state.iterations() * state.range(0) * width);
                                 })
        ->ArgName("rows")
        ->Arg(1)
        ->Arg(64);
  }
}

const bool kRegistered = [] {
  Register(kElementwiseRows, 1152);
  Register(kRmsNormRows, 1152);
  Register(kGeluMulRows, 6912);
  Register(kQkNormRopeRows, kHeadDim);
  Register(kQuantizeRowsRows, 1152);
  Register(kQuantizeRotatedRowsRows, 1152);
  Register(kKvStoreRows, kHeadDim);
  return true;
}();

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
