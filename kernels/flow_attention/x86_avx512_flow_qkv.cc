// Prefill: the lanes of a register are 16 query rows. Their scores with a key need no sum across a register, the
// softmax of 16 rows is one, and only the queries are transposed, once, not every block of keys.
//
//   q panel  [kPassRows / 32][head_dim][32 rows]
//   K panel  [kBlockKeys][head_dim]
//   scores   [kBlockKeys][kPassRows], then the weights
//   V panel  [head_dim / 32][kBlockKeys][32]        a column stripe is 4 KB and stays in L1 for all the rows
#include <limits>

#include "kernels/flow_attention/x86_avx512.h"
#include "kernels/flow_attention/x86_avx512_transpose.h"

namespace ryzen_npu_gemma::kernels::avx512 {

namespace {

constexpr int64_t kPassRows = 128;  // rows that share one panel
constexpr int64_t kTileKeys = 8;
constexpr int64_t kTileRows = 8;

struct Scratch {
  alignas(64) float q[kPassRows * kMaxHeadDim];
  alignas(64) float panel[kBlockKeys * kMaxHeadDim];
  alignas(64) float scores[kBlockKeys * kPassRows];
  alignas(64) float decay[kPassRows];
  alignas(64) int32_t key_begin[kPassRows], key_end[kPassRows];  // of the block, for each row
  RowTile row_tiles[kPassRows];
};

// Rows past `rows` are zero.
void FillQueryPanel(const float* q, int64_t rows, int64_t D, float* panel) {
  for (int64_t r = 0; r < rows; r += 16) {
    float* columns = panel + r / 32 * (D * 32) + r % 32;
    for (int64_t d = 0; d < D; d += 16) {
      __m512 m[16];
      for (int i = 0; i < 16; ++i) m[i] = r + i < rows ? Load16(q + (r + i) * D + d) : _mm512_setzero_ps();
      Transpose16x16(m);
      for (int i = 0; i < 16; ++i) _mm512_store_ps(columns + (d + i) * 32, m[i]);
    }
  }
}

// Keys past `keys` are zero, up to a multiple of kTileKeys.
template <typename Kv>
void FillKeyPanel(const Kv* k, int64_t keys, int64_t D, float* panel) {
  for (int64_t i = 0; i < keys * D; i += 16) _mm512_store_ps(panel + i, Load16(k + i));
  for (int64_t i = keys * D; i % (kTileKeys * D) != 0; i += 16) _mm512_store_ps(panel + i, _mm512_setzero_ps());
}

template <typename Kv>
void FillValuePanel(const Kv* v, int64_t keys, int64_t D, float* panel) {
  for (int64_t j = 0; j < keys; ++j) {
    for (int64_t d = 0; d < D; d += 32) {
      float* row = panel + d * kBlockKeys + j * 32;
      _mm512_store_ps(row, Load16(v + j * D + d));
      _mm512_store_ps(row + 16, Load16(v + j * D + d + 16));
    }
  }
}

// scores[j][kVectors x 16 rows] of kTileKeys keys
template <int kVectors>
void ScoreTile(const float* q, const float* k, int64_t D, float* scores) {
  __m512 sum[kTileKeys][kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kTileKeys; ++j) {
#pragma GCC unroll 2
    for (int i = 0; i < kVectors; ++i) sum[j][i] = _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < D; ++d) {
    __m512 q16[kVectors];
#pragma GCC unroll 2
    for (int i = 0; i < kVectors; ++i) q16[i] = _mm512_load_ps(q + d * 32 + i * 16);
#pragma GCC unroll 8
    for (int j = 0; j < kTileKeys; ++j) {
      const __m512 k16 = _mm512_set1_ps(k[j * D + d]);
#pragma GCC unroll 2
      for (int i = 0; i < kVectors; ++i) sum[j][i] = _mm512_fmadd_ps(q16[i], k16, sum[j][i]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kTileKeys; ++j) {
#pragma GCC unroll 2
    for (int i = 0; i < kVectors; ++i) _mm512_store_ps(scores + j * kPassRows + i * 16, sum[j][i]);
  }
}

// The scores of 16 rows become e^(score - m), and 0 where a row does not see the key; m and l take the block in.
void Softmax(int64_t keys, int64_t rows, float* scores, const int32_t* key_begin, const int32_t* key_end, float* decay,
             float* m, float* l) {
  const __m512 minus_infinity = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  const auto exist = static_cast<__mmask16>(rows >= 16 ? 0xffff : (1 << rows) - 1);
  const __m512i begin = _mm512_load_si512(key_begin), end = _mm512_load_si512(key_end);
  const auto visible = [&](int64_t j) {
    const __m512i key = _mm512_set1_epi32(static_cast<int32_t>(j));
    return static_cast<__mmask16>(_mm512_cmple_epi32_mask(begin, key) & _mm512_cmpgt_epi32_mask(end, key));
  };
  const __m512 old_m = _mm512_mask_loadu_ps(minus_infinity, exist, m);
  __m512 max = old_m;
  for (int64_t j = 0; j < keys; ++j)
    max = _mm512_mask_max_ps(max, visible(j), max, _mm512_load_ps(scores + j * kPassRows));
  // With every score at -inf the weights are 0, not e^(-inf + inf).
  const __m512 base = _mm512_mask_mov_ps(max, _mm512_cmpeq_ps_mask(max, minus_infinity), _mm512_setzero_ps());
  __m512 sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < keys; ++j) {
    const __m512 score = _mm512_load_ps(scores + j * kPassRows);
    const __m512 weight = _mm512_maskz_mov_ps(visible(j), Exp(_mm512_sub_ps(score, base)));
    _mm512_store_ps(scores + j * kPassRows, weight);
    sum = _mm512_add_ps(sum, weight);
  }
  const __m512 factor = Exp(_mm512_sub_ps(old_m, base));
  _mm512_store_ps(decay, factor);
  _mm512_mask_storeu_ps(m, exist, max);
  _mm512_mask_storeu_ps(l, exist, _mm512_fmadd_ps(_mm512_maskz_loadu_ps(exist, l), factor, sum));
}

// y[r][0..32) = y[r][0..32) decay_r + sum_j weights[j][r] v[j][0..32)
template <int kRows>
void ValueTile(const float* weights, const float* v, int64_t keys, const float* decay, float* y, int64_t D) {
  __m512 low[kRows], high[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512 decay16 = _mm512_set1_ps(decay[r]);
    low[r] = _mm512_mul_ps(_mm512_loadu_ps(y + r * D), decay16);
    high[r] = _mm512_mul_ps(_mm512_loadu_ps(y + r * D + 16), decay16);
  }
  for (int64_t j = 0; j < keys; ++j) {
    const __m512 v_low = _mm512_load_ps(v + j * 32);
    const __m512 v_high = _mm512_load_ps(v + j * 32 + 16);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512 weight = _mm512_set1_ps(weights[j * kPassRows + r]);
      low[r] = _mm512_fmadd_ps(weight, v_low, low[r]);
      high[r] = _mm512_fmadd_ps(weight, v_high, high[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    _mm512_storeu_ps(y + r * D, low[r]);
    _mm512_storeu_ps(y + r * D + 16, high[r]);
  }
}

using ValueTileFn = void (*)(const float*, const float*, int64_t, const float*, float*, int64_t);
constexpr ValueTileFn kValueTiles[kTileRows + 1] = {nullptr,      ValueTile<1>, ValueTile<2>,
                                                    ValueTile<3>, ValueTile<4>, ValueTile<5>,
                                                    ValueTile<6>, ValueTile<7>, ValueTile<8>};

template <typename Kv>
void AttendBlock(const QueryTile& tile, const KvSegment& segment, const KeyRange& block, int64_t row, int64_t row_end,
                 const SoftmaxState& state, Scratch& scratch) {
  const int64_t D = tile.head_dim, keys = block.size(), rows = row_end - row;
  const int64_t count = CutRows(tile, segment, block, row, row_end, kTileRows, scratch.row_tiles);
  for (int64_t r = 0; r < (rows + 15) / 16 * 16; ++r) scratch.key_begin[r] = scratch.key_end[r] = 0;
  for (int64_t i = 0; i < count; ++i) {
    const RowTile& t = scratch.row_tiles[i];
    for (int64_t r = t.row - row; r < t.row - row + t.rows; ++r) {
      scratch.key_begin[r] = static_cast<int32_t>(t.keys.begin);
      scratch.key_end[r] = static_cast<int32_t>(t.keys.end);
    }
  }

  FillKeyPanel(static_cast<const Kv*>(segment.k) + block.begin * D, keys, D, scratch.panel);
  for (int64_t r = 0; r < rows; r += 32) {
    const auto score = rows - r > 16 ? ScoreTile<2> : ScoreTile<1>;
    for (int64_t j = 0; j < keys; j += kTileKeys)
      score(scratch.q + r * D, scratch.panel + j * D, D, scratch.scores + j * kPassRows + r);
  }
  for (int64_t r = 0; r < rows; r += 16) {
    Softmax(keys, rows - r, scratch.scores + r, scratch.key_begin + r, scratch.key_end + r, scratch.decay + r,
            state.m + row + r, state.l + row + r);
  }
  FillValuePanel(static_cast<const Kv*>(segment.v) + block.begin * D, keys, D, scratch.panel);
  for (int64_t d = 0; d < D; d += 32) {
    for (int64_t i = 0; i < count; ++i) {
      const RowTile& t = scratch.row_tiles[i];
      kValueTiles[t.rows](scratch.scores + t.keys.begin * kPassRows + (t.row - row),
                          scratch.panel + d * kBlockKeys + t.keys.begin * 32, t.keys.size(),
                          scratch.decay + (t.row - row), state.y + t.row * D + d, D);
    }
  }
}

}  // namespace

void FlowQkv(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  Scratch scratch;
  const auto attend = tile.kv_type == KvType::kFloat32 ? AttendBlock<float> : AttendBlock<uint16_t>;
  for (int64_t row = 0; row < tile.rows; row += kPassRows) {
    const int64_t row_end = std::min(row + kPassRows, tile.rows);
    FillQueryPanel(tile.q + row * tile.head_dim, row_end - row, tile.head_dim, scratch.q);
    ForEachBlock(tile, segment, row, row_end, kBlockKeys,
                 [&](const KeyRange& block) { attend(tile, segment, block, row, row_end, state, scratch); });
  }
}

}  // namespace ryzen_npu_gemma::kernels::avx512
