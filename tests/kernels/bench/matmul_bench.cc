// MatMulNBits, MatMulNBitsInt8 and MatMulRotatedInt8, every row of their tables, on matrices of Gemma3: one row of
// activations (decode, bound by memory) and 512 (prefill, bound by arithmetic).
#include <benchmark/benchmark.h>

#include <memory>
#include <string>

#include "tests/kernels/bench/operands.h"
#include "tests/kernels/bench/rates.h"
#include "tests/kernels/bench/tables.h"

namespace ryzen_npu_gemma::kernels {
namespace {

struct Product {
  const char* name;
  NBitsShape shape;
  int64_t M;
};

constexpr Product kProducts[] = {
    {"270m_gate_up", {4096, 640, 4}, 1},   {"270m_down", {640, 2048, 4}, 1},      {"1b_gate_up", {13824, 1152, 4}, 1},
    {"1b_down", {1152, 6912, 4}, 1},       {"270m_head", {262144, 640, 4}, 1},    {"270m_head", {262144, 640, 8}, 1},
    {"270m_gate_up", {4096, 640, 4}, 512}, {"270m_down", {640, 2048, 4}, 512},    {"1b_gate_up", {13824, 1152, 4}, 512},
    {"1b_down", {1152, 6912, 4}, 512},     {"270m_gate_up", {4096, 640, 8}, 512}, {"270m_gate_up", {4096, 640, 4}, 128},
    {"270m_down", {640, 2048, 4}, 128},
};

constexpr int64_t kCold = int64_t{192} << 20;  // weights that are gone through before the same are met again

std::unique_ptr<MatMulOperands> operands;  // of the bench that runs, shared by its threads

template <bool kFast>
void SetUp(const benchmark::State& state) {
  MeasureReading(state.threads());
  MeasurePeaks(state.threads());
  const Product& product = kProducts[state.range(0)];
  const NBitsShape shape = kFast ? FastShape(product.shape) : product.shape;
  const int64_t copies = product.M == 1 ? kCold / shape.packed_bytes() + 1 : 1;
  operands = std::make_unique<MatMulOperands>(shape, product.M, copies);
}
void TearDown(const benchmark::State&) { operands.reset(); }

template <bool kFast, typename Fn, std::size_t kRows>
void Register(
    const KernelRow<Fn> (&rows)[kRows], const char* (*peak)(uint32_t required, int bits),
    bool (*takes)(const Product&) = [](const Product&) { return true; }) {
  for (const KernelRow<Fn>& row : rows) {
    if (!row.supported() || row.required == kAnyCpu) continue;  // the reference is for truth, not for time
    for (std::size_t i = 0; i < std::size(kProducts); ++i) {
      const Product& product = kProducts[i];
      if (!takes(product)) continue;
      const std::string name = std::string(row.name) + "/" + product.name + "_" + std::to_string(product.shape.bits) +
                               "bit/rows:" + std::to_string(product.M);
      benchmark::RegisterBenchmark(
          name.c_str(),
          [&row, &product, peak](benchmark::State& state) {
            int64_t copy = 0;
            const double seconds =
                SecondsPerCall(state, [&] { operands->Run(row.fn, copy++, state.thread_index(), state.threads()); });
            if (product.M == 1)
              return ShowBandwidth(state, operands->w.shape().packed_bytes() / state.threads(), seconds);
            ShowOperations(state, 2 * product.M * product.shape.N * product.shape.K / state.threads(), seconds,
                           peak(row.required, product.shape.bits));
          })
          ->Arg(static_cast<int64_t>(i))
          ->Setup(SetUp<kFast>)
          ->Teardown(TearDown)
          ->ThreadRange(1, 2)
          ->UseRealTime();
    }
  }
}

const bool kRegistered = [] {
  Register<false>(kMatMulNBitsRows, [](uint32_t required, int) { return Fp32Peak(required); });
  Register<true>(kMatMulNBitsInt8Rows, Int8Peak);
  Register<true>(kMatMulRotatedInt8Rows, Int8Peak,
                 [](const Product& product) { return RotatingPays(FastShape(product.shape), product.M); });
  return true;
}();

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
