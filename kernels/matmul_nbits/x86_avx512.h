// The AVX-512 engine of MatMulNBitsAvx512Vnni for many rows of activations. Operands as in matmul_nbits.h.
#pragma once

#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels::avx512 {

void TiledMatMul(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
                 int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy);

}  // namespace ryzen_npu_gemma::kernels::avx512
