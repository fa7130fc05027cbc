// Decode: the few query heads of one position (usually). Every K and V byte is used once, so it is converted in
// registers. Four keys at once, and V by columns, are orders that the processor's own prefetcher does not follow, so
// the scores of a block fetch its V, and its V the next block's K, evenly as they go: 16 KB ahead, which fit into L1.
#include <limits>

#include "kernels/flow_attention/x86_avx512.h"

namespace ryzen_npu_gemma::kernels::avx512 {

namespace {

constexpr int kTileKeys = 4;
constexpr int64_t kStripe = 64;  // columns of V

// Any address is fine.
template <typename Kv>
void Prefetch(const Kv* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
}

// Lane 4 r + j is the sum of v[j][r].
__m512 Sums(const __m512 (&v)[4][4]) {
  __m512 quarter[4];  // [r], lane 4 c + j: the part of v[j][r] in its 128-bit lane c
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0][r], v[1][r]), _mm512_unpackhi_ps(v[0][r], v[1][r]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2][r], v[3][r]), _mm512_unpackhi_ps(v[2][r], v[3][r]));
    quarter[r] = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
  }
  const __m512 c = _mm512_add_ps(_mm512_shuffle_f32x4(quarter[0], quarter[1], 0x88),
                                 _mm512_shuffle_f32x4(quarter[0], quarter[1], 0xdd));
  const __m512 d = _mm512_add_ps(_mm512_shuffle_f32x4(quarter[2], quarter[3], 0x88),
                                 _mm512_shuffle_f32x4(quarter[2], quarter[3], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd));
}

// scores[r * kBlockKeys + j] = q_r . k_j for kTileKeys keys, of which `keys` exist, of kRows rows; fetches their v
template <int kRows, typename Kv>
void ScoreKeys(const float* q, const Kv* k, const Kv* v, int64_t keys, int64_t D, float* scores) {
  __m512 sum[kTileKeys][kFlowKvRows];  // rows past kRows stay zero
  const Kv* row[kTileKeys];
#pragma GCC unroll 4
  for (int j = 0; j < kTileKeys; ++j) {
    row[j] = k + std::min<int64_t>(j, keys - 1) * D;
#pragma GCC unroll 4
    for (int r = 0; r < kFlowKvRows; ++r) sum[j][r] = _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < D; d += 16) {
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 16 * kTileKeys; i += 64 / sizeof(Kv)) Prefetch(v + d * kTileKeys + i);
    __m512 k16[kTileKeys];
#pragma GCC unroll 4
    for (int j = 0; j < kTileKeys; ++j) k16[j] = Load16(row[j] + d);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m512 q16 = Load16(q + r * D + d);
#pragma GCC unroll 4
      for (int j = 0; j < kTileKeys; ++j) sum[j][r] = _mm512_fmadd_ps(q16, k16[j], sum[j][r]);
    }
  }
  alignas(64) float by_row[kFlowKvRows][kTileKeys];
  _mm512_store_ps(by_row[0], Sums(sum));
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t j = 0; j < keys; ++j) scores[r * kBlockKeys + j] = by_row[r][j];
  }
}

// Scores [kBlockKeys] of one row, of which `keys` exist, become e^(score - m), the others 0; m and l take the block in.
// Returns the factor by which the row's past decays.
float Softmax(float* scores, int64_t keys, float& m, float& l) {
  static_assert(kBlockKeys == 32);
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  const auto exist = static_cast<uint32_t>((uint64_t{1} << keys) - 1);
  const __m512 low = _mm512_mask_loadu_ps(_mm512_set1_ps(kMinusInfinity), static_cast<__mmask16>(exist), scores);
  const __m512 high =
      _mm512_mask_loadu_ps(_mm512_set1_ps(kMinusInfinity), static_cast<__mmask16>(exist >> 16), scores + 16);
  const float old_m = m;
  m = std::max(old_m, _mm512_reduce_max_ps(_mm512_max_ps(low, high)));
  // With every score at -inf the weights are 0, not e^(-inf + inf).
  const float base = m == kMinusInfinity ? 0.0f : m;
  const __m512 weight_low = Exp(_mm512_sub_ps(low, _mm512_set1_ps(base)));
  const __m512 weight_high = Exp(_mm512_sub_ps(high, _mm512_set1_ps(base)));
  _mm512_storeu_ps(scores, weight_low);
  _mm512_storeu_ps(scores + 16, weight_high);
  const float decay = _mm512_cvtss_f32(Exp(_mm512_set1_ps(old_m - base)));
  l = l * decay + _mm512_reduce_add_ps(_mm512_add_ps(weight_low, weight_high));
  return decay;
}

// y_r = y_r decay_r + sum_j weights[r][j] v_j; fetches the block at next_k
template <int kRows, typename Kv>
void AddBlock(const float* weights, const float* decay, const Kv* v, const Kv* next_k, int64_t keys, int64_t D,
              float* y) {
  constexpr int kVectors = kStripe / 16;
  for (int64_t d = 0; d < D; d += kStripe) {
    __m512 sum[kRows][kVectors];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i)
        sum[r][i] = _mm512_mul_ps(Load16(y + r * D + d + i * 16), _mm512_set1_ps(decay[r]));
    }
    for (int64_t j = 0; j < keys; ++j) {
#pragma GCC unroll 4
      for (std::size_t i = 0; i < kStripe; i += 64 / sizeof(Kv)) Prefetch(next_k + d * kBlockKeys + j * kStripe + i);
      __m512 v16[kVectors];
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) v16[i] = Load16(v + j * D + d + i * 16);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m512 weight = _mm512_set1_ps(weights[r * kBlockKeys + j]);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) sum[r][i] = _mm512_fmadd_ps(weight, v16[i], sum[r][i]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) _mm512_storeu_ps(y + r * D + d + i * 16, sum[r][i]);
    }
  }
}

template <int kRows, typename Kv>
void AttendBlock(const QueryTile& tile, const RowTile& row_tile, const Kv* k, const Kv* v, const Kv* next_k,
                 const SoftmaxState& state) {
  const int64_t D = tile.head_dim;
  const int64_t keys = row_tile.keys.size();
  float scores[kRows * kBlockKeys];
  float decay[kRows];
  const float* q = tile.q + row_tile.row * D;
  for (int64_t j = 0; j < keys; j += kTileKeys)
    ScoreKeys<kRows>(q, k + j * D, v + j * D, std::min<int64_t>(kTileKeys, keys - j), D, scores + j);
  for (int64_t r = 0; r < kRows; ++r) {
    const int64_t row = row_tile.row + r;
    decay[r] = Softmax(scores + r * kBlockKeys, keys, state.m[row], state.l[row]);
  }
  AddBlock<kRows>(scores, decay, v, next_k, keys, D, state.y + row_tile.row * D);
}

template <typename Kv>
void Attend(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  using AttendFn = void (*)(const QueryTile&, const RowTile&, const Kv*, const Kv*, const Kv*, const SoftmaxState&);
  constexpr AttendFn kAttend[] = {nullptr, AttendBlock<1, Kv>, AttendBlock<2, Kv>, AttendBlock<3, Kv>,
                                  AttendBlock<4, Kv>};
  const auto* k = static_cast<const Kv*>(segment.k);
  const auto* v = static_cast<const Kv*>(segment.v);
  const int64_t key_end = VisibleKeys(tile, segment, tile.rows - 1).end;
  ForEachBlock(tile, segment, 0, tile.rows, kBlockKeys, [&](const KeyRange& block) {
    RowTile row_tiles[kFlowKvRows];
    const int64_t count = CutRows(tile, segment, block, 0, tile.rows, kFlowKvRows, row_tiles);
    // Behind the last block nothing is read, so nothing is fetched but what is there already.
    const Kv* next_k = k + (block.end < key_end ? block.end : block.begin) * tile.head_dim;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = (block.begin + row_tiles[i].keys.begin) * tile.head_dim;
      kAttend[row_tiles[i].rows](tile, row_tiles[i], k + first, v + first, next_k, state);
    }
  });
}

}  // namespace

void FlowKv(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  if (tile.rows == 0) return;
  tile.kv_type == KvType::kFloat32 ? Attend<float>(tile, segment, state) : Attend<uint16_t>(tile, segment, state);
}

}  // namespace ryzen_npu_gemma::kernels::avx512
