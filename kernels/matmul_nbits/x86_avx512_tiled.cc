// Tiled matmul as in x86_avx2_tiled.cc, two strips at a time: a tile is 1..8 rows x 32 columns of y, so an activation
// that is loaded meets two registers of weights.
#include <algorithm>
#include <cstring>

#include "kernels/matmul_nbits/equal_parts.h"
#include "kernels/matmul_nbits/x86_avx512.h"
#include "kernels/matmul_nbits/x86_avx512_vnni.h"

namespace ryzen_npu_gemma::kernels::avx512 {

namespace {

constexpr int64_t kTileRows = 8;
constexpr int64_t kPanelColumns = 2 * kStripRows;
constexpr int64_t kDepth = 128;              // 16 KB of panel, half of a small L1
constexpr int64_t kBlockRows = 192;          // with kDepth columns 110 KB of activations, in L2
constexpr int64_t kRowStride = kDepth + 16;  // keeps the rows of a tile out of one another's cache sets

// A block of a strip is a short run of bytes, which the processor's own prefetcher finds too late.
void PrefetchGroup(const uint8_t* group, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(group + i), _MM_HINT_T1);
}

// w [32][kPanelColumns], of which 16 columns are written
void DequantiseGroup4(const uint8_t* group, float* w) {
  const __m512 scale = LoadBfloat16x16(group), min = LoadBfloat16x16(group + 32);
  for (int chunk = 0; chunk < 4; ++chunk) {
    const __m512i words = _mm512_load_si512(group + 64 + chunk * 64);
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c, w += kPanelColumns) {
      const __m512i q = _mm512_and_si512(_mm512_srli_epi32(words, c * 4), _mm512_set1_epi32(15));
      _mm512_store_ps(w, _mm512_fmadd_ps(_mm512_cvtepi32_ps(q), scale, min));
    }
  }
}

void DequantiseGroup8(const uint8_t* group, float* w) {
  const __m512 scale = LoadBfloat16x16(group);
  for (int chunk = 0; chunk < 8; ++chunk) {
    const __m512i words = _mm512_loadu_si512(group + 32 + chunk * 64);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c, w += kPanelColumns) {
      const __m512i code = _mm512_srai_epi32(_mm512_slli_epi32(words, 24 - 8 * c), 24);
      _mm512_store_ps(w, _mm512_mul_ps(_mm512_cvtepi32_ps(code), scale));
    }
  }
}

// y (+)= a w for kRows rows.
//   a [kRows, depth] rows kRowStride apart;  w [depth][kPanelColumns];  y: the columns of `exist` exist
template <int kRows>
void Tile(const float* a, const float* w, int64_t depth, bool add, const __mmask16 (&exist)[2], float* y, int64_t ldy) {
  // Few rows have too few sums in flight to hide the FMA's latency: two chains then.
  constexpr int kChains = kRows <= 4 ? 2 : 1;
  __m512 sum[kChains][kRows][2];
#pragma GCC unroll 2
  for (int chain = 0; chain < kChains; ++chain) {
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) sum[chain][m][0] = sum[chain][m][1] = _mm512_setzero_ps();
  }
  // A large y has left the cache since the last block of columns was added.
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) _mm_prefetch(reinterpret_cast<const char*>(y + m * ldy), _MM_HINT_T0);
  for (int64_t k = 0; k < depth; k += kChains) {
#pragma GCC unroll 2
    for (int chain = 0; chain < kChains; ++chain) {
      const __m512 w0 = _mm512_load_ps(w + (k + chain) * kPanelColumns);
      const __m512 w1 = _mm512_load_ps(w + (k + chain) * kPanelColumns + kStripRows);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        const __m512 x = _mm512_set1_ps(a[m * kRowStride + k + chain]);
        sum[chain][m][0] = _mm512_fmadd_ps(x, w0, sum[chain][m][0]);
        sum[chain][m][1] = _mm512_fmadd_ps(x, w1, sum[chain][m][1]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int s = 0; s < 2; ++s) {
      __m512 total = sum[0][m][s];
      if constexpr (kChains == 2) total = _mm512_add_ps(total, sum[1][m][s]);
      float* columns = y + m * ldy + s * kStripRows;
      if (add) total = _mm512_add_ps(total, _mm512_maskz_loadu_ps(exist[s], columns));
      _mm512_mask_storeu_ps(columns, exist[s], total);
    }
  }
}

using TileFn = void (*)(const float*, const float*, int64_t, bool, const __mmask16 (&)[2], float*, int64_t);
constexpr TileFn kTiles[kTileRows + 1] = {nullptr, Tile<1>, Tile<2>, Tile<3>, Tile<4>,
                                          Tile<5>, Tile<6>, Tile<7>, Tile<8>};

}  // namespace

void TiledMatMul(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
                 int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  alignas(64) float a_block[kBlockRows * kRowStride];
  alignas(64) float w[kDepth * kPanelColumns] = {};  // the half of a last odd strip's neighbour stays finite
  const auto dequantise = shape.bits == 4 ? DequantiseGroup4 : DequantiseGroup8;
  for (int64_t k = 0, depth; k < shape.K; k += depth) {
    depth = std::min(kDepth, shape.K - k);
    for (int64_t m0 = 0, block_rows; m0 < M; m0 += block_rows) {
      block_rows = NextPart(M - m0, kBlockRows);
      for (int64_t m = 0; m < block_rows; ++m) {
        std::memcpy(a_block + m * kRowStride, a + (m0 + m) * lda + k, static_cast<std::size_t>(depth) * sizeof(float));
      }
      for (int64_t strip = strip_begin; strip < strip_end; strip += 2) {
        const int64_t strips = std::min<int64_t>(2, strip_end - strip);
        for (int64_t s = 0; s < strips; ++s) {
          const uint8_t* group = packed + (strip + s) * shape.strip_bytes() + k / 32 * shape.group_bytes();
          for (int64_t c = 0; c < depth; c += 32, group += shape.group_bytes()) {
            PrefetchGroup(group + 2 * shape.strip_bytes(), shape.group_bytes());
            dequantise(group, w + c * kPanelColumns + s * kStripRows);
          }
        }
        const int64_t n = strip * kStripRows;
        const __mmask16 exist[2] = {Columns(shape.N - n),
                                    strips == 2 ? Columns(shape.N - n - kStripRows) : __mmask16{0}};
        for (int64_t m = 0, rows; m < block_rows; m += rows) {
          rows = NextPart(block_rows - m, kTileRows);
          kTiles[rows](a_block + m * kRowStride, w, depth, k > 0, exist, y + (m0 + m) * ldy + n, ldy);
        }
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels::avx512
