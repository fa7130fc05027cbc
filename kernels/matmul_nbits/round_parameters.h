// Parameters of 4-bit groups from bfloat16 to 7 and 9 bits (matmul_nbits.h, Parameters::kRounded).
#pragma once

#include <cstdint>

#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels {

// Writes the head and the parameters of a strip; its chunks are not touched.
//   blocks  those of the strip's 32 rows: K/256 of them, rounded up
//   half    whether the strip is of their first or second 16 rows
//   rows    of the 16 that exist; the others become zero
//   strip   strip_bytes()
void RoundParameters(const NBitsShape& shape, const uint8_t* blocks, int64_t half, int64_t rows, uint8_t* strip);

}  // namespace ryzen_npu_gemma::kernels
