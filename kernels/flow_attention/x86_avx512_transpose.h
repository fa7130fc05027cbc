// Included only by files that are compiled for AVX-512.
#pragma once

#include <immintrin.h>

namespace ryzen_npu_gemma::kernels::avx512 {

// Exchanges lane j of register i with lane i of register j.
inline void Transpose16x16(__m512 (&m)[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(m[i], m[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(m[i], m[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    m[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    m[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    m[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    m[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 16; i += 8) {
#pragma GCC unroll 4
    for (int j = i; j < i + 4; ++j) {
      t[j] = _mm512_shuffle_f32x4(m[j], m[j + 4], 0x88);
      t[j + 4] = _mm512_shuffle_f32x4(m[j], m[j + 4], 0xdd);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    m[j] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0x88);
    m[j + 8] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0xdd);
  }
}

}  // namespace ryzen_npu_gemma::kernels::avx512
