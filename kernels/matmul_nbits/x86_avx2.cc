#include "kernels/matmul_nbits/x86_avx2.h"

namespace ryzen_npu_gemma::kernels {

void MatMulNBitsAvx2(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
                     int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  if (1 <= M && M <= avx2::kFusedRows) {
    avx2::FusedDqp(shape, a, M, lda, packed, strip_begin, strip_end, y, ldy);
  } else {
    avx2::TiledMatMul(shape, a, M, lda, packed, strip_begin, strip_end, y, ldy);
  }
}

}  // namespace ryzen_npu_gemma::kernels
