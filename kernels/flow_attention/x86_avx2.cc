// Keys in blocks that fit L1, rows in tiles of four:
//   1. a block of K is read (fp16 converted once for all rows) and gives the scores of every row tile, s [rows][keys]
//   2. each row takes the block's maximum, e^(s - m) in place of s, and its old sum and output decay
//   3. the same block of V is read and added to the output of every row tile
// A row tile holds rows that see the same keys of the block, so nothing is masked: at the window's edges tiles get
// smaller.
#include <cmath>
#include <limits>

#include "kernels/flow_attention/flow_attention.h"
#include "kernels/flow_attention/visible_keys.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

using avx2::Load8;

constexpr int64_t kTileRows = 4;
constexpr int64_t kBlockKeys = 32;  // a multiple of 8
constexpr int64_t kPassRows = 128;  // rows that share one conversion of a block
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Sums of four vectors, in order.
__m128 Sums(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

// scores[r * kBlockKeys + j] = q_r . k_j for kKeys keys of kRows rows
template <int kRows, int kKeys, typename Kv>
void Scores(const float* q, const Kv* k, int64_t D, float* scores) {
  __m256 sum[4][kKeys];  // rows past kRows stay zero
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kKeys; ++j) sum[r][j] = _mm256_setzero_ps();
  }
  for (int64_t d = 0; d < D; d += 8) {
    __m256 k8[kKeys];
#pragma GCC unroll 4
    for (int j = 0; j < kKeys; ++j) k8[j] = Load8(k + j * D + d);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256 q8 = Load8(q + r * D + d);
#pragma GCC unroll 4
      for (int j = 0; j < kKeys; ++j) sum[r][j] = _mm256_fmadd_ps(q8, k8[j], sum[r][j]);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kKeys; ++j) {
    alignas(16) float by_row[4];
    _mm_store_ps(by_row, Sums(sum[0][j], sum[1][j], sum[2][j], sum[3][j]));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) scores[r * kBlockKeys + j] = by_row[r];
  }
}

template <int kRows, typename Kv>
void ScoreKeys(const float* q, const Kv* k, int64_t keys, int64_t D, float* scores) {
  int64_t j = 0;
  for (; j + 2 <= keys; j += 2) Scores<kRows, 2>(q, k + j * D, D, scores + j);
  if (j < keys) Scores<kRows, 1>(q, k + j * D, D, scores + j);
}

// y[r][d] = y[r][d] * decay[r] + sum_j weights[r][j] v_j[d] for kVectors * 8 columns
template <int kRows, int kVectors, typename Kv>
void AddColumns(const float* weights, const float* decay, const Kv* v, int64_t keys, int64_t D, float* y) {
  __m256 sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const __m256 decay8 = _mm256_broadcast_ss(decay + r);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) sum[r][i] = _mm256_mul_ps(Load8(y + r * D + i * 8), decay8);
  }
  for (int64_t j = 0; j < keys; ++j) {
    __m256 v8[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) v8[i] = Load8(v + j * D + i * 8);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256 weight = _mm256_broadcast_ss(weights + r * kBlockKeys + j);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = _mm256_fmadd_ps(weight, v8[i], sum[r][i]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) _mm256_storeu_ps(y + r * D + i * 8, sum[r][i]);
  }
}

template <int kRows, typename Kv>
void AddValues(const float* weights, const float* decay, const Kv* v, int64_t keys, int64_t D, float* y) {
  int64_t d = 0;
  for (; d + 16 <= D; d += 16) AddColumns<kRows, 2>(weights, decay, v + d, keys, D, y + d);
  if (d < D) AddColumns<kRows, 1>(weights, decay, v + d, keys, D, y + d);
}

// scores [kBlockKeys] of one row become e^(score - m); m and l take the block in. Returns what the row's past decays
// by.
float Softmax(float* scores, int64_t keys, float& m, float& l) {
  for (int64_t j = keys; j % 8 != 0; ++j) scores[j] = kMinusInfinity;
  __m256 max8 = _mm256_set1_ps(m);
  for (int64_t j = 0; j < keys; j += 8) max8 = _mm256_max_ps(max8, Load8(scores + j));
  const float old_m = m;
  m = avx2::Max(max8);
  // With every score at -inf the weights are 0, not e^(-inf + inf).
  const float base = m == kMinusInfinity ? 0.0f : m;
  __m256 sum = _mm256_setzero_ps();
  for (int64_t j = 0; j < keys; j += 8) {
    const __m256 weight = avx2::Exp(_mm256_sub_ps(Load8(scores + j), _mm256_set1_ps(base)));
    _mm256_storeu_ps(scores + j, weight);
    sum = _mm256_add_ps(sum, weight);
  }
  const float decay = _mm256_cvtss_f32(avx2::Exp(_mm256_set1_ps(old_m - base)));
  l = l * decay + avx2::Sum(sum);
  return decay;
}

template <typename Kv>
using ScoreFn = void (*)(const float*, const Kv*, int64_t, int64_t, float*);
template <typename Kv>
using AddFn = void (*)(const float*, const float*, const Kv*, int64_t, int64_t, float*);
template <typename Kv>
constexpr ScoreFn<Kv> kScoreKeys[kTileRows + 1] = {nullptr, ScoreKeys<1, Kv>, ScoreKeys<2, Kv>, ScoreKeys<3, Kv>,
                                                   ScoreKeys<4, Kv>};
template <typename Kv>
constexpr AddFn<Kv> kAddValues[kTileRows + 1] = {nullptr, AddValues<1, Kv>, AddValues<2, Kv>, AddValues<3, Kv>,
                                                 AddValues<4, Kv>};

struct Block {
  int64_t begin = 0;  // rows of the segment
  int64_t end = 0;

  KeyRange Visible(const QueryTile& tile, const KvSegment& segment, int64_t row) const {
    const KeyRange keys = VisibleKeys(tile, segment, row);
    const int64_t first = std::clamp(keys.begin, begin, end);
    return {first - begin, std::clamp(keys.end, first, end) - begin};
  }
};

// How many rows from `row` on, at most kTileRows, see the same keys of the block.
int64_t TileRows(const QueryTile& tile, const KvSegment& segment, const Block& block, int64_t row, int64_t row_end) {
  int64_t rows = std::min(kTileRows, row_end - row);
  const KeyRange keys = block.Visible(tile, segment, row);
  while (block.Visible(tile, segment, row + rows - 1) != keys) --rows;
  return rows;
}

const float* Convert(const uint16_t* rows, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 8) _mm256_store_ps(out + i, Load8(rows + i));
  return out;
}

// The rows [row_begin, row_end) of the tile against one block. k, v: the block's first row.
template <typename Kv>
void ScoreBlock(const QueryTile& tile, const KvSegment& segment, const Block& block, int64_t row_begin, int64_t row_end,
                const Kv* k, float* scores) {
  const int64_t D = tile.head_dim;
  for (int64_t row = row_begin, rows; row < row_end; row += rows) {
    rows = TileRows(tile, segment, block, row, row_end);
    const KeyRange keys = block.Visible(tile, segment, row);
    kScoreKeys<Kv>[rows](tile.q + row* D, k + keys.begin* D, keys.end - keys.begin, D,
                         scores + (row - row_begin)* kBlockKeys);
  }
}

template <typename Kv>
void AddBlock(const QueryTile& tile, const KvSegment& segment, const Block& block, int64_t row_begin, int64_t row_end,
              const Kv* v, float* scores, const SoftmaxState& state) {
  const int64_t D = tile.head_dim;
  for (int64_t row = row_begin, rows; row < row_end; row += rows) {
    rows = TileRows(tile, segment, block, row, row_end);
    const KeyRange keys = block.Visible(tile, segment, row);
    if (keys.begin == keys.end) continue;
    float* weights = scores + (row - row_begin) * kBlockKeys;
    float decay[kTileRows];
    for (int64_t r = 0; r < rows; ++r) {
      decay[r] = Softmax(weights + r * kBlockKeys, keys.end - keys.begin, state.m[row + r], state.l[row + r]);
    }
    kAddValues<Kv>[rows](weights, decay, v + keys.begin* D, keys.end - keys.begin, D, state.y + row* D);
  }
}

}  // namespace

void FlowAccumulateAvx2(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  const int64_t D = tile.head_dim;
  if (D % 8 != 0) {
    FlowAccumulateReference(tile, segment, state);
    return;
  }
  alignas(64) float panel[kBlockKeys * kMaxHeadDim];
  alignas(64) float scores[kPassRows * kBlockKeys];
  for (int64_t row = 0; row < tile.rows; row += kPassRows) {
    const int64_t row_end = std::min(row + kPassRows, tile.rows);
    const int64_t key_end = VisibleKeys(tile, segment, row_end - 1).end;
    Block block;
    for (block.begin = VisibleKeys(tile, segment, row).begin; block.begin < key_end; block.begin = block.end) {
      block.end = std::min(block.begin + kBlockKeys, key_end);
      const int64_t first = block.begin * D;
      const int64_t n = (block.end - block.begin) * D;
      if (tile.kv_type == KvType::kFloat32) {
        ScoreBlock(tile, segment, block, row, row_end, static_cast<const float*>(segment.k) + first, scores);
        AddBlock(tile, segment, block, row, row_end, static_cast<const float*>(segment.v) + first, scores, state);
        continue;
      }
      const uint16_t* k = static_cast<const uint16_t*>(segment.k) + first;
      const uint16_t* v = static_cast<const uint16_t*>(segment.v) + first;
      if (row_end - row <= kTileRows) {  // each key is used once: convert in registers
        ScoreBlock(tile, segment, block, row, row_end, k, scores);
        AddBlock(tile, segment, block, row, row_end, v, scores, state);
      } else {
        ScoreBlock(tile, segment, block, row, row_end, Convert(k, n, panel), scores);
        AddBlock(tile, segment, block, row, row_end, Convert(v, n, panel), scores, state);
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
