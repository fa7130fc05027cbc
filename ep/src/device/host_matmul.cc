#include "ep/src/device/host_matmul.h"

#include <algorithm>

#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"
#include "kernels/matmul_rotated_int8/matmul_rotated_int8.h"

namespace ryzen_npu_gemma::ep {
namespace {

constexpr int64_t kFewRows = 4;             // up to here a matrix product is a stream of weights,
constexpr int64_t kStreamBytes = 16 << 10;  // and this much of it worth a hand-over,
constexpr int64_t kBlockStrips = 2;         // above that strips are worth one

// multiply(w, begin, end, y, N) on strips that together are all of the launch's.
template <class F>
void ForStrips(const MatMul& launch, const std::vector<MemoryRange>& next, int64_t M, const std::vector<float*>& y,
               Threads& threads, F&& multiply) {
  int64_t total = 0;  // strips of all matrices, one after the other
  for (const auto& w : launch.w) total += w->shape.strips();
  const int64_t grain =
      M > kFewRows ? kBlockStrips : std::max<int64_t>(1, kStreamBytes / launch.w[0]->shape.strip_bytes());
  if (M <= kFewRows) threads.WillRead(next);
  threads.ForRange(total, grain, [&](int64_t begin, int64_t end) {
    for (std::size_t i = 0; i < launch.w.size() && end > 0; ++i) {
      const PackedMatrix& w = *launch.w[i];
      const int64_t strips = w.shape.strips();
      if (begin < strips) multiply(w, begin, std::min(end, strips), y[i], launch.y[i].width);
      begin = std::max<int64_t>(0, begin - strips);
      end -= strips;
    }
  });
}

}  // namespace

std::vector<MemoryRange> WeightsOf(const MatMul& launch) {
  std::vector<MemoryRange> weights;
  for (const auto& w : launch.w) weights.push_back({w->data, w->shape.packed_bytes()});
  return weights;
}

ProductInput OpenProductInput(const MatMul& launch, Accuracy accuracy, const float* a, int64_t M, Scratch& quantized) {
  const int64_t K = launch.a.width;
  if (accuracy == Accuracy::kExact) return a;
  if (std::all_of(launch.w.begin(), launch.w.end(), [&](const auto& w) { return kernels::RotatingPays(w->shape, M); }))
    return quantized.Reserve<kernels::RotatedSpan>(M * (K / kernels::kSpanColumns));
  return quantized.Reserve<kernels::QuantizedGroup>(M * (K / 32));
}

void QuantizeRows(const float* x, int64_t first, int64_t rows, int64_t M, int64_t K, const ProductInput& a) {
  static const auto quantize_rows = kernels::SelectQuantizeRows();
  static const auto quantize_rotated_rows = kernels::SelectQuantizeRotatedRows();
  if (auto* const* rotated = std::get_if<kernels::RotatedSpan*>(&a))
    quantize_rotated_rows(x, rows, K, K, *rotated + first, M);
  else if (auto* const* groups = std::get_if<kernels::QuantizedGroup*>(&a))
    quantize_rows(x, rows, K, K, *groups + first * (K / 32));
}

void RunMatMul(const MatMul& launch, const ProductInput& a, int64_t M, const std::vector<float*>& y,
               const std::vector<MemoryRange>& next, Threads& threads, LaunchTimes* times) {
  static const auto matmul = kernels::SelectMatMulNBits();
  static const auto matmul_int8 = kernels::SelectMatMulNBitsInt8();
  static const auto matmul_rotated_int8 = kernels::SelectMatMulRotatedInt8();
  const int64_t K = launch.a.width;
  int64_t bytes = 0, operations = 0;
  for (const auto& w : launch.w) {
    bytes += w->shape.packed_bytes();
    operations += 2 * M * K * w->shape.N;
  }
  ForStrips(launch, next, M, y, threads, [&](const PackedMatrix& w, int64_t begin, int64_t end, float* y_i, int64_t N) {
    if (auto* const* rotated = std::get_if<kernels::RotatedSpan*>(&a))
      matmul_rotated_int8(w.shape, *rotated, M, w.data, begin, end, y_i, N);
    else if (auto* const* groups = std::get_if<kernels::QuantizedGroup*>(&a))
      matmul_int8(w.shape, *groups, M, w.data, begin, end, y_i, N);
    else
      matmul(w.shape, std::get<const float*>(a), M, K, w.data, begin, end, y_i, N);
  });
  if (times) times->Done("product", bytes, operations);
}

}  // namespace ryzen_npu_gemma::ep
