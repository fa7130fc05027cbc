// MatMulNBits on the host: which engine multiplies, in what its activations are, and who takes which strips of the
// weights.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "ep/src/device/scratch.h"
#include "ep/src/device/threads.h"
#include "ep/src/launch_times.h"
#include "ep/src/options.h"
#include "ep/src/plan.h"
#include "kernels/quantize_rotated_rows/quantize_rotated_rows.h"
#include "kernels/quantize_rows/quantize_rows.h"

namespace ryzen_npu_gemma::ep {

// What a launch streams from memory, in its order.
std::vector<MemoryRange> WeightsOf(const MatMul& launch);

// A product's activations [M, K] as its engine reads them: fp32, or quantised in one of two ways.
using ProductInput = std::variant<const float*, kernels::QuantizedGroup*, kernels::RotatedSpan*>;

// Those of a launch of M rows: `a` itself, or room in `quantized` that QuantizeRows is to fill.
ProductInput OpenProductInput(const MatMul& launch, Accuracy accuracy, const float* a, int64_t M, Scratch& quantized);

// Fills rows [first, first + rows) of M from x [rows, K].
void QuantizeRows(const float* x, int64_t first, int64_t rows, int64_t M, int64_t K, const ProductInput& a);

// Runs one launch: y[i] [M, N_i] of its activations and weights. `next`: what the product after it streams.
void RunMatMul(const MatMul& launch, const ProductInput& a, int64_t M, const std::vector<float*>& y,
               const std::vector<MemoryRange>& next, Threads& threads, LaunchTimes* times = nullptr);

}  // namespace ryzen_npu_gemma::ep
