// Prefill: both products are outer-product tiles of 6 rows x 16 columns, as in the tiled matmul.
//
//   K panel  [kBlockKeys / 16][head_dim][16 keys]   transposed, so that scores need no sums across a register
//   V panel  [head_dim / 16][kBlockKeys][16]        a column stripe is 2 KB and stays in L1 for all the rows
#include "kernels/flow_attention/x86_avx2.h"

namespace ryzen_npu_gemma::kernels::avx2 {

namespace {

constexpr int64_t kTileRows = 6;
constexpr int64_t kPassRows = 128;  // rows that share one panel

void Transpose8x8(__m256 (&m)[8]) {
  __m256 pairs[8], quads[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    m[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    m[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

// Writes whole columns of 8 keys, zero past `keys`; what other columns hold gives scores that nobody reads.
template <typename Kv>
void FillKeyPanel(const Kv* k, int64_t keys, int64_t D, float* panel) {
  for (int64_t j = 0; j < keys; j += 8) {
    float* columns = panel + j / 16 * (D * 16) + j % 16;
    for (int64_t d = 0; d < D; d += 8) {
      __m256 m[8];
      for (int i = 0; i < 8; ++i) m[i] = j + i < keys ? Load8(k + (j + i) * D + d) : _mm256_setzero_ps();
      Transpose8x8(m);
      for (int i = 0; i < 8; ++i) _mm256_store_ps(columns + (d + i) * 16, m[i]);
    }
  }
}

template <typename Kv>
void FillValuePanel(const Kv* v, int64_t keys, int64_t D, float* panel) {
  for (int64_t j = 0; j < keys; ++j) {
    for (int64_t d = 0; d < D; d += 16) {
      float* row = panel + d * kBlockKeys + j * 16;
      _mm256_store_ps(row, Load8(v + j * D + d));
      _mm256_store_ps(row + 8, Load8(v + j * D + d + 8));
    }
  }
}

// y[r][0..16) = y[r][0..16) decay_r + sum_k a[r][k] b[k][0..16);  no decay: y is written, not read
template <int kRows>
void Tile(const float* a, int64_t a_stride, const float* b, int64_t depth, const float* decay, float* y,
          int64_t y_stride) {
  __m256 low[kRows], high[kRows];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    low[r] = high[r] = _mm256_setzero_ps();
    if (decay != nullptr) {
      const __m256 decay8 = _mm256_broadcast_ss(decay + r);
      low[r] = _mm256_mul_ps(Load8(y + r * y_stride), decay8);
      high[r] = _mm256_mul_ps(Load8(y + r * y_stride + 8), decay8);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    const __m256 b_low = _mm256_load_ps(b + k * 16);
    const __m256 b_high = _mm256_load_ps(b + k * 16 + 8);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m256 a8 = _mm256_broadcast_ss(a + r * a_stride + k);
      low[r] = _mm256_fmadd_ps(a8, b_low, low[r]);
      high[r] = _mm256_fmadd_ps(a8, b_high, high[r]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    _mm256_storeu_ps(y + r * y_stride, low[r]);
    _mm256_storeu_ps(y + r * y_stride + 8, high[r]);
  }
}

using TileFn = void (*)(const float*, int64_t, const float*, int64_t, const float*, float*, int64_t);
constexpr TileFn kTiles[kTileRows + 1] = {nullptr, Tile<1>, Tile<2>, Tile<3>, Tile<4>, Tile<5>, Tile<6>};

struct Scratch {
  alignas(64) float panel[kBlockKeys * kMaxHeadDim];
  alignas(64) float scores[kPassRows * kBlockKeys];  // then the weights
  float decay[kPassRows];
  RowTile row_tiles[kPassRows];
};

template <typename Kv>
void AttendBlock(const QueryTile& tile, const KvSegment& segment, const KeyRange& block, int64_t row, int64_t row_end,
                 const SoftmaxState& state, Scratch& scratch) {
  const int64_t D = tile.head_dim;
  const int64_t count = CutRows(tile, segment, block, row, row_end, kTileRows, scratch.row_tiles);

  FillKeyPanel(static_cast<const Kv*>(segment.k) + block.begin * D, block.size(), D, scratch.panel);
  for (int64_t j = 0; j < block.size(); j += 16) {
    for (int64_t i = 0; i < count; ++i) {
      const RowTile& t = scratch.row_tiles[i];
      if (t.keys.end <= j || t.keys.begin >= j + 16) continue;
      kTiles[t.rows](tile.q + t.row * D, D, scratch.panel + j * D, D, nullptr,
                     scratch.scores + (t.row - row) * kBlockKeys + j, kBlockKeys);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const RowTile& t = scratch.row_tiles[i];
    for (int64_t r = t.row; r < t.row + t.rows; ++r) {
      scratch.decay[r - row] = Softmax(scratch.scores + (r - row) * kBlockKeys, t.keys, state.m[r], state.l[r]);
    }
  }
  FillValuePanel(static_cast<const Kv*>(segment.v) + block.begin * D, block.size(), D, scratch.panel);
  for (int64_t d = 0; d < D; d += 16) {
    for (int64_t i = 0; i < count; ++i) {
      const RowTile& t = scratch.row_tiles[i];
      kTiles[t.rows](scratch.scores + (t.row - row) * kBlockKeys + t.keys.begin, kBlockKeys,
                     scratch.panel + d * kBlockKeys + t.keys.begin * 16, t.keys.size(), scratch.decay + (t.row - row),
                     state.y + t.row * D + d, D);
    }
  }
}

}  // namespace

void FlowQkv(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  Scratch scratch;
  const auto attend = tile.kv_type == KvType::kFloat32 ? AttendBlock<float> : AttendBlock<uint16_t>;
  for (int64_t row = 0; row < tile.rows; row += kPassRows) {
    const int64_t row_end = std::min(row + kPassRows, tile.rows);
    ForEachBlock(tile, segment, row, row_end, kBlockKeys,
                 [&](const KeyRange& block) { attend(tile, segment, block, row, row_end, state, scratch); });
  }
}

}  // namespace ryzen_npu_gemma::kernels::avx2
