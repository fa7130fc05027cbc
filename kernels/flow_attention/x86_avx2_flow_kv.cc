// Decode: the few query heads of one position (usually). Every K and V byte is used once, so it is converted in
// registers. Three keys at once, and V by columns, are orders that the processor's own prefetcher does not follow, so
// the scores of a block fetch its V, and its V the next block's K, evenly as they go: 16 KB ahead, which fit into L1.
#include "kernels/flow_attention/x86_avx2.h"

namespace ryzen_npu_gemma::kernels::avx2 {

namespace {

// Sums of four vectors, in order.
__m128 Sums(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

// Any address is fine.
template <typename Kv>
void Prefetch(const Kv* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
}

// scores[r * kBlockKeys + j] = q_r . k_j for kKeys keys of kRows rows; fetches their v
template <int kRows, int kKeys, typename Kv>
void ScoreKeys(const float* q, const Kv* k, const Kv* v, int64_t D, float* scores) {
  __m256 sum[kFlowKvRows][kKeys];  // rows past kRows stay zero
#pragma GCC unroll 4
  for (int r = 0; r < kFlowKvRows; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kKeys; ++j) sum[r][j] = _mm256_setzero_ps();
  }
  for (int64_t d = 0; d < D; d += 8) {
    Prefetch(v + d * kKeys);
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
    alignas(16) float by_row[kFlowKvRows];
    _mm_store_ps(by_row, Sums(sum[0][j], sum[1][j], sum[2][j], sum[3][j]));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) scores[r * kBlockKeys + j] = by_row[r];
  }
}

template <int kRows, typename Kv>
void ScoreBlock(const float* q, const Kv* k, const Kv* v, int64_t keys, int64_t D, float* scores) {
  int64_t j = 0;
  for (; j + 3 <= keys; j += 3) ScoreKeys<kRows, 3>(q, k + j * D, v + j * D, D, scores + j);
  for (; j < keys; ++j) ScoreKeys<kRows, 1>(q, k + j * D, v + j * D, D, scores + j);
}

// y_r = y_r decay_r + sum_j weights[r][j] v_j; fetches the block at next_k
template <int kRows, typename Kv>
void AddBlock(const float* weights, const float* decay, const Kv* v, const Kv* next_k, int64_t keys, int64_t D,
              float* y) {
  for (int64_t d = 0; d < D; d += 16) {
    __m256 low[kRows], high[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256 decay8 = _mm256_broadcast_ss(decay + r);
      low[r] = _mm256_mul_ps(Load8(y + r * D + d), decay8);
      high[r] = _mm256_mul_ps(Load8(y + r * D + d + 8), decay8);
    }
    for (int64_t j = 0; j < keys; ++j) {
      Prefetch(next_k + d * kBlockKeys + j * 16);
      const __m256 v_low = Load8(v + j * D + d);
      const __m256 v_high = Load8(v + j * D + d + 8);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256 weight = _mm256_broadcast_ss(weights + r * kBlockKeys + j);
        low[r] = _mm256_fmadd_ps(weight, v_low, low[r]);
        high[r] = _mm256_fmadd_ps(weight, v_high, high[r]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      _mm256_storeu_ps(y + r * D + d, low[r]);
      _mm256_storeu_ps(y + r * D + d + 8, high[r]);
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
  ScoreBlock<kRows>(tile.q + row_tile.row * D, k, v, keys, D, scores);
  for (int64_t r = 0; r < kRows; ++r) {
    const int64_t row = row_tile.row + r;
    decay[r] = Softmax(scores + r * kBlockKeys, {0, keys}, state.m[row], state.l[row]);
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

}  // namespace ryzen_npu_gemma::kernels::avx2
