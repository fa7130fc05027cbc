// y_K = scale * w_NK[row]: one embedding row out of the LM head's own packed matrix (tied weights).
// Layout of `packed`: kernels/matmul_nbits/matmul_nbits.h. `row` must be in [0, N).
#pragma once

#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels {

void EmbedRow(const NBitsShape& shape, const uint8_t* packed, int64_t row, float scale, float* y);

}  // namespace ryzen_npu_gemma::kernels
