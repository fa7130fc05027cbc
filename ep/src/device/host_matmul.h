// MatMulNBits on the host: which engine multiplies, in what its activations are, and who takes which strips of the
// weights.
#pragma once

#include <vector>

#include "ep/src/device/scratch.h"
#include "ep/src/device/threads.h"
#include "ep/src/launch_times.h"
#include "ep/src/options.h"
#include "ep/src/plan.h"

namespace ryzen_npu_gemma::ep {

// Runs one launch: y[i] [M, N_i] of a [M, K] and the launch's weights. `quantized` is memory to work in.
void RunMatMul(const MatMul& launch, Accuracy accuracy, const float* a, int64_t M, const std::vector<float*>& y,
               Threads& threads, Scratch& quantized, LaunchTimes* times = nullptr);

}  // namespace ryzen_npu_gemma::ep
