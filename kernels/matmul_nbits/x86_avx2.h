// The two AVX2 engines behind MatMulNBitsAvx2: FusedDqp for few rows of activations, TiledMatMul for more.
// Operands as in matmul_nbits.h.
#pragma once

#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels::avx2 {

inline constexpr int64_t kFusedRows = 4;

// 1 <= M <= kFusedRows
void FusedDqp(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
              int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy);

void TiledMatMul(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
                 int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy);

}  // namespace ryzen_npu_gemma::kernels::avx2
