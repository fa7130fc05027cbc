// Tiled matmul: a block of a strip is dequantised once, to a panel that stays in L1, and meets every row of a block of
// activations that stays in L2.
//
//              <- 16 ->                  tile: 1..6 rows x 16 columns of y in up to 12 registers
//         +------------+
//  depth  |  panel w   |                 for each k: two loads of w, one broadcast of a per row
//         +------------+
//  +-----+ +-----------+
//  |  a  | |  tile y   |  rows
//  +-----+ +-----------+
#include <algorithm>
#include <cstring>

#include "kernels/matmul_nbits/equal_parts.h"
#include "kernels/matmul_nbits/x86_avx2.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels::avx2 {

namespace {

constexpr int64_t kTileRows = 6;
constexpr int64_t kDepth = 256;              // 16 KB of panel, half of L1
constexpr int64_t kBlockRows = 144;          // with kDepth columns 153 KB of activations, in L2
constexpr int64_t kRowStride = kDepth + 16;  // keeps the rows of a tile out of one another's cache sets

__m256i LoadWords(const uint8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

// A block of a strip is a short run of bytes, which the processor's own prefetcher finds too late.
void PrefetchGroup(const uint8_t* group, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(group + i), _MM_HINT_T1);
}

// w [32][16]
void DequantiseGroup4(const uint8_t* group, float* w) {
  for (int half = 0; half < 2; ++half) {  // of the 16 rows
    const __m256 min = LoadBfloat16x8(group + 32 + half * 16);
    // Nibble c is read where it stands, as q * 16^c, so its scale carries 16^-c; the top one is shifted down.
    __m256 scale[8];
    scale[0] = scale[7] = LoadBfloat16x8(group + half * 16);
#pragma GCC unroll 8
    for (int c = 1; c < 7; ++c) scale[c] = _mm256_mul_ps(scale[c - 1], _mm256_set1_ps(1.0f / 16));
#pragma GCC unroll 1
    for (int chunk = 0; chunk < 4; ++chunk) {
      const __m256i words = LoadWords(group + 64 + chunk * 64 + half * 32);
      float* columns = w + chunk * 8 * kStripRows + half * 8;
#pragma GCC unroll 8
      for (int c = 0; c < 8; ++c) {
        const __m256i q =
            c < 7 ? _mm256_and_si256(words, _mm256_set1_epi32(0xf << (c * 4 % 28))) : _mm256_srli_epi32(words, 28);
        _mm256_store_ps(columns + c * kStripRows, _mm256_fmadd_ps(_mm256_cvtepi32_ps(q), scale[c], min));
      }
    }
  }
}

void DequantiseGroup8(const uint8_t* group, float* w) {
  const __m256 scale_low = LoadBfloat16x8(group);
  const __m256 scale_high = LoadBfloat16x8(group + 16);
  for (int chunk = 0; chunk < 8; ++chunk) {
    const __m256i words_low = LoadWords(group + 32 + chunk * 64);
    const __m256i words_high = LoadWords(group + 64 + chunk * 64);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c, w += kStripRows) {
      const __m256i code_low = _mm256_srai_epi32(_mm256_slli_epi32(words_low, 24 - 8 * c), 24);
      const __m256i code_high = _mm256_srai_epi32(_mm256_slli_epi32(words_high, 24 - 8 * c), 24);
      _mm256_store_ps(w, _mm256_mul_ps(_mm256_cvtepi32_ps(code_low), scale_low));
      _mm256_store_ps(w + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(code_high), scale_high));
    }
  }
}

// y (+)= a w for kRows rows. Few rows have too few sums in flight to hide the FMA's latency: two chains then.
//   a [kRows, depth] rows kRowStride apart;  w [depth][16];  y: `columns` of 16 columns exist
template <int kRows>
void Tile(const float* a, const float* w, int64_t depth, bool add, int64_t columns, float* y, int64_t ldy) {
  constexpr int kChains = kRows <= 3 ? 2 : 1;
  __m256 low[kChains][kRows];
  __m256 high[kChains][kRows];
#pragma GCC unroll 8
  for (int chain = 0; chain < kChains; ++chain) {
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) low[chain][m] = high[chain][m] = _mm256_setzero_ps();
  }
  // A large y has left the cache since the last block of columns was added.
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) _mm_prefetch(reinterpret_cast<const char*>(y + m * ldy), _MM_HINT_T0);
  for (int64_t k = 0; k < depth; k += kChains) {
#pragma GCC unroll 8
    for (int chain = 0; chain < kChains; ++chain) {
      const __m256 w_low = _mm256_load_ps(w + (k + chain) * kStripRows);
      const __m256 w_high = _mm256_load_ps(w + (k + chain) * kStripRows + 8);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        const __m256 x = _mm256_broadcast_ss(a + m * kRowStride + k + chain);
        low[chain][m] = _mm256_fmadd_ps(x, w_low, low[chain][m]);
        high[chain][m] = _mm256_fmadd_ps(x, w_high, high[chain][m]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    if constexpr (kChains == 2) {
      low[0][m] = _mm256_add_ps(low[0][m], low[1][m]);
      high[0][m] = _mm256_add_ps(high[0][m], high[1][m]);
    }
    float* row = y + m * ldy;
    if (columns == kStripRows) {
      if (add) {
        low[0][m] = _mm256_add_ps(low[0][m], _mm256_loadu_ps(row));
        high[0][m] = _mm256_add_ps(high[0][m], _mm256_loadu_ps(row + 8));
      }
      _mm256_storeu_ps(row, low[0][m]);
      _mm256_storeu_ps(row + 8, high[0][m]);
    } else {
      alignas(32) float strip[kStripRows];
      _mm256_store_ps(strip, low[0][m]);
      _mm256_store_ps(strip + 8, high[0][m]);
      for (int64_t n = 0; n < columns; ++n) row[n] = add ? row[n] + strip[n] : strip[n];
    }
  }
}

using TileFn = void (*)(const float*, const float*, int64_t, bool, int64_t, float*, int64_t);
constexpr TileFn kTiles[kTileRows + 1] = {nullptr, Tile<1>, Tile<2>, Tile<3>, Tile<4>, Tile<5>, Tile<6>};

}  // namespace

void TiledMatMul(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
                 int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  alignas(64) float a_block[kBlockRows * kRowStride];
  alignas(64) float w[kDepth * kStripRows];
  for (int64_t k = 0, depth; k < shape.K; k += depth) {
    depth = std::min(kDepth, shape.K - k);
    for (int64_t m0 = 0, block_rows; m0 < M; m0 += block_rows) {
      block_rows = NextPart(M - m0, kBlockRows);
      for (int64_t m = 0; m < block_rows; ++m) {
        std::memcpy(a_block + m * kRowStride, a + (m0 + m) * lda + k, static_cast<std::size_t>(depth) * sizeof(float));
      }
      for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
        const uint8_t* group = packed + strip * shape.strip_bytes() + k / 32 * shape.group_bytes();
        for (int64_t c = 0; c < depth; c += 32, group += shape.group_bytes()) {
          PrefetchGroup(group + shape.strip_bytes(), shape.group_bytes());
          shape.bits == 4 ? DequantiseGroup4(group, w + c * kStripRows) : DequantiseGroup8(group, w + c * kStripRows);
        }
        const int64_t n = strip * kStripRows;
        const int64_t columns = std::min(kStripRows, shape.N - n);
        for (int64_t m = 0, rows; m < block_rows; m += rows) {
          rows = NextPart(block_rows - m, kTileRows);
          kTiles[rows](a_block + m * kRowStride, w, depth, k > 0, columns, y + (m0 + m) * ldy + n, ldy);
        }
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels::avx2
