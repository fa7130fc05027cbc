// Prefill of accuracy=fast: products of bf16, sums and softmax in fp32. vdpbf16ps adds two products to each lane, so
// whatever is summed over comes in pairs; else it is x86_avx512_flow_qkv.cc. q, K, V and the softmax's weights are
// rounded, and l sums the rounded weights, those that V is multiplied with.
//
//   q panel  [kPassRows / 32][head_dim / 2][32 rows][2]
//   K panel  [kBlockKeys][head_dim]
//   scores   [kPassRows / 32][kBlockKeys][32 rows]
//   weights  [kPassRows / 16][kBlockKeys / 2][16 rows][2]
//   V panel  [head_dim / 32][kBlockKeys / 2][32][2]
#include <algorithm>
#include <limits>

#include "kernels/flow_attention/x86_avx512.h"
#include "kernels/flow_attention/x86_avx512_transpose.h"

namespace ryzen_npu_gemma::kernels {

namespace {

using avx512::Exp;
using avx512::Load16;

constexpr int64_t kPassRows = 128;  // rows that share one panel
constexpr int64_t kBlockKeys = 128;
constexpr int64_t kTileKeys = 8;
constexpr int64_t kTileRows = 8;

// A pair of bf16; the first is the lower half.
using Pair = uint32_t;

struct Scratch {
  alignas(64) Pair q[kPassRows * kMaxHeadDim / 2];
  alignas(64) Pair panel[kBlockKeys * kMaxHeadDim / 2];
  alignas(64) float scores[kBlockKeys * kPassRows];
  alignas(64) Pair weights[kBlockKeys / 2 * kPassRows];
  alignas(64) float decay[kPassRows];
  alignas(64) int32_t key_begin[kPassRows] = {}, key_end[kPassRows] = {};  // of the block, for each row
};

__m512i Round(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// Lane i: a pair of a[i] and b[i].
__m512i RoundPairs(__m512 a, __m512 b) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i order = _mm512_or_si512(lane, _mm512_slli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(16)), 16));
  return _mm512_permutexvar_epi16(order, Round(a, b));
}

__m512 AddProducts(__m512 sum, __m512i a, __m512i b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }

// Rows past `rows` are zero.
void FillQueryPanel(const float* q, int64_t rows, int64_t D, Pair* panel) {
  for (int64_t r = 0; r < rows; r += 16) {
    Pair* columns = panel + r / 32 * (D / 2 * 32) + r % 32;
    for (int64_t d = 0; d < D; d += 32) {
      __m512 m[16];
      for (int i = 0; i < 16; ++i) {
        const float* row = q + (r + i) * D + d;
        m[i] = r + i < rows ? _mm512_castsi512_ps(Round(Load16(row), Load16(row + 16))) : _mm512_setzero_ps();
      }
      avx512::Transpose16x16(m);
      for (int i = 0; i < 16; ++i) _mm512_store_ps(columns + (d / 2 + i) * 32, m[i]);
    }
  }
}

// Keys past `keys` are zero, up to a multiple of kTileKeys.
template <typename Kv>
void FillKeyPanel(const Kv* k, int64_t keys, int64_t D, Pair* panel) {
  for (int64_t i = 0; i < keys * D; i += 32, panel += 16)
    _mm512_store_si512(panel, Round(Load16(k + i), Load16(k + i + 16)));
  for (int64_t i = keys * D; i % (kTileKeys * D) != 0; i += 32, panel += 16)
    _mm512_store_si512(panel, _mm512_setzero_si512());
}

// An odd last key has a zero for a partner.
template <typename Kv>
void FillValuePanel(const Kv* v, int64_t keys, int64_t D, Pair* panel) {
  for (int64_t j = 0; j < keys; j += 2, v += 2 * D) {
    for (int64_t d = 0; d < D; d += 16) {
      const __m512 second = j + 1 < keys ? Load16(v + D + d) : _mm512_setzero_ps();
      _mm512_store_si512(panel + d / 32 * (kBlockKeys / 2 * 32) + j / 2 * 32 + d % 32,
                         RoundPairs(Load16(v + d), second));
    }
  }
}

// scores[j][kVectors x 16 rows] of kTileKeys keys
template <int kVectors>
void ScoreTile(const Pair* q, const Pair* k, int64_t D, float* scores) {
  __m512 sum[kTileKeys][kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kTileKeys; ++j) {
#pragma GCC unroll 2
    for (int i = 0; i < kVectors; ++i) sum[j][i] = _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < D / 2; ++d) {
    __m512i q16[kVectors];
#pragma GCC unroll 2
    for (int i = 0; i < kVectors; ++i) q16[i] = _mm512_load_si512(q + d * 32 + i * 16);
#pragma GCC unroll 8
    for (int j = 0; j < kTileKeys; ++j) {
      const __m512i k16 = _mm512_set1_epi32(static_cast<int>(k[j * (D / 2) + d]));
#pragma GCC unroll 2
      for (int i = 0; i < kVectors; ++i) sum[j][i] = AddProducts(sum[j][i], q16[i], k16);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kTileKeys; ++j) {
#pragma GCC unroll 2
    for (int i = 0; i < kVectors; ++i) _mm512_store_ps(scores + j * 32 + i * 16, sum[j][i]);
  }
}

// Pairs of keys [begin, end) that some of a few rows see; of them [whole_begin, whole_end) that all see, both keys.
struct Pairs {
  int64_t begin = 0, whole_begin = 0, whole_end = 0, end = 0;
};

// Both ends of what a row sees grow with the row (visible_keys.h).
Pairs SeenPairs(const int32_t* key_begin, const int32_t* key_end, int64_t rows) {
  const int64_t begin = key_begin[0] / 2, end = (key_end[rows - 1] + 1) / 2;
  const int64_t whole_begin = std::min<int64_t>((key_begin[rows - 1] + 1) / 2, end);
  return {begin, whole_begin, std::max<int64_t>(key_end[0] / 2, whole_begin), end};
}

template <typename Whole, typename Part>
void ForEachPair(const Pairs& pairs, const Whole& whole, const Part& part) {
  int64_t pair = pairs.begin;
  for (; pair < pairs.whole_begin; ++pair) part(pair);
  for (; pair < pairs.whole_end; ++pair) whole(pair);
  for (; pair < pairs.end; ++pair) part(pair);
}

// e^x for x <= 0 with a relative error of 6e-6, a three-hundredth of the rounding to bf16. NaN stays NaN.
//   x = n ln 2 + r, |r| <= ln 2 / 2;  e^r = 1 + r + r^2 p(r), p minimax of degree 2
__m512 Weight(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);  // returns its second operand for NaN
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e430p-1f), x);
  __m512 p = _mm512_set1_ps(0x1.5225b4p-5f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.571cacp-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.0006b4p-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

// The weights e^(score - m) of 16 rows with `pairs`, which one of them sees at least, 0 where a row does not see the
// key; m and l take the block in.
void Softmax(const Pairs& pairs, int64_t rows, const float* scores, const int32_t* key_begin, const int32_t* key_end,
             Pair* weights, float* decay, float* m, float* l) {
  const __m512 minus_infinity = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  const auto exist = static_cast<__mmask16>(rows >= 16 ? 0xffff : (1 << rows) - 1);
  const __m512i begin = _mm512_load_si512(key_begin), end = _mm512_load_si512(key_end);
  const auto visible = [&](int64_t j) {
    const __m512i key = _mm512_set1_epi32(static_cast<int32_t>(j));
    return static_cast<__mmask16>(_mm512_cmple_epi32_mask(begin, key) & _mm512_cmpgt_epi32_mask(end, key));
  };
  const auto score = [&](int64_t j) { return _mm512_load_ps(scores + j * 32); };
  const __m512 old_m = _mm512_mask_loadu_ps(minus_infinity, exist, m);
  __m512 max[2] = {old_m, old_m};
  ForEachPair(
      pairs,
      [&](int64_t pair) {
        max[0] = _mm512_max_ps(max[0], score(2 * pair));
        max[1] = _mm512_max_ps(max[1], score(2 * pair + 1));
      },
      [&](int64_t pair) {
        max[0] = _mm512_mask_max_ps(max[0], visible(2 * pair), max[0], score(2 * pair));
        max[1] = _mm512_mask_max_ps(max[1], visible(2 * pair + 1), max[1], score(2 * pair + 1));
      });
  const __m512 new_m = _mm512_max_ps(max[0], max[1]);
  // With every score at -inf the weights are 0, not e^(-inf + inf).
  const __m512 base = _mm512_mask_mov_ps(new_m, _mm512_cmpeq_ps_mask(new_m, minus_infinity), _mm512_setzero_ps());
  __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  const auto weight = [&](int64_t j) { return Weight(_mm512_sub_ps(score(j), base)); };
  const auto add = [&](int64_t pair, __m512 first, __m512 second) {
    const __m512i both = RoundPairs(first, second);
    _mm512_store_si512(weights + pair * 16, both);
    sum[0] = _mm512_add_ps(sum[0], _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)));
    sum[1] = _mm512_add_ps(sum[1], _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536))));
  };
  ForEachPair(
      pairs, [&](int64_t pair) { add(pair, weight(2 * pair), weight(2 * pair + 1)); },
      [&](int64_t pair) {
        add(pair, _mm512_maskz_mov_ps(visible(2 * pair), weight(2 * pair)),
            _mm512_maskz_mov_ps(visible(2 * pair + 1), weight(2 * pair + 1)));
      });
  const __m512 factor = Exp(_mm512_sub_ps(old_m, base));
  _mm512_store_ps(decay, factor);
  _mm512_mask_storeu_ps(m, exist, new_m);
  const __m512 old_l = _mm512_maskz_loadu_ps(exist, l);
  _mm512_mask_storeu_ps(l, exist, _mm512_fmadd_ps(old_l, factor, _mm512_add_ps(sum[0], sum[1])));
}

// y[r][0..32) = y[r][0..32) decay_r + sum over the keys j that row r sees of weights[j][r] v[j][0..32)
template <int kRows>
void ValueTile(const Pair* weights, const Pair* v, const int32_t* key_begin, const int32_t* key_end, const float* decay,
               float* y, int64_t D) {
  __m512 low[kRows], high[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) low[r] = high[r] = _mm512_setzero_ps();
  const auto add = [&](int64_t pair, const auto& seen) {
    const __m512i v_low = _mm512_load_si512(v + pair * 32), v_high = _mm512_load_si512(v + pair * 32 + 16);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512i weight = _mm512_set1_epi32(static_cast<int>(weights[pair * 16 + r]));
      low[r] = AddProducts(low[r], seen(r, v_low), weight);
      high[r] = AddProducts(high[r], seen(r, v_high), weight);
    }
  };
  ForEachPair(
      SeenPairs(key_begin, key_end, kRows), [&](int64_t pair) { add(pair, [](int, __m512i both) { return both; }); },
      [&](int64_t pair) {
        // A key that a row does not see has no weight, but its value may be NaN.
        int32_t mask[kRows];
        for (int r = 0; r < kRows; ++r) {
          const auto sees = [&](int64_t key) { return key_begin[r] <= key && key < key_end[r]; };
          mask[r] = (sees(2 * pair) ? 0xffff : 0) | (sees(2 * pair + 1) ? -0x10000 : 0);
        }
        add(pair, [&](int r, __m512i both) { return _mm512_and_si512(both, _mm512_set1_epi32(mask[r])); });
      });
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512 decay16 = _mm512_set1_ps(decay[r]);
    _mm512_storeu_ps(y + r * D, _mm512_fmadd_ps(_mm512_loadu_ps(y + r * D), decay16, low[r]));
    _mm512_storeu_ps(y + r * D + 16, _mm512_fmadd_ps(_mm512_loadu_ps(y + r * D + 16), decay16, high[r]));
  }
}

using ValueTileFn = void (*)(const Pair*, const Pair*, const int32_t*, const int32_t*, const float*, float*, int64_t);
constexpr ValueTileFn kValueTiles[kTileRows + 1] = {nullptr,      ValueTile<1>, ValueTile<2>,
                                                    ValueTile<3>, ValueTile<4>, ValueTile<5>,
                                                    ValueTile<6>, ValueTile<7>, ValueTile<8>};

template <typename Kv>
void AttendBlock(const QueryTile& tile, const KvSegment& segment, const KeyRange& block, int64_t row, int64_t row_end,
                 const SoftmaxState& state, Scratch& scratch) {
  const int64_t D = tile.head_dim, keys = block.size(), rows = row_end - row;
  for (int64_t r = 0; r < rows; ++r) {
    const KeyRange seen = VisibleKeys(tile, segment, row + r);
    scratch.key_begin[r] = static_cast<int32_t>(std::clamp(seen.begin, block.begin, block.end) - block.begin);
    scratch.key_end[r] = static_cast<int32_t>(std::clamp(seen.end, block.begin, block.end) - block.begin);
  }
  const auto seen = [&](int64_t r, int64_t most) {
    return SeenPairs(scratch.key_begin + r, scratch.key_end + r, std::min(most, rows - r));
  };

  FillKeyPanel(static_cast<const Kv*>(segment.k) + block.begin * D, keys, D, scratch.panel);
  for (int64_t r = 0; r < rows; r += 32) {
    const Pairs pairs = seen(r, 32);
    const auto score = rows - r > 16 ? ScoreTile<2> : ScoreTile<1>;
    for (int64_t j = 2 * pairs.begin / kTileKeys * kTileKeys; j < 2 * pairs.end; j += kTileKeys)
      score(scratch.q + r * (D / 2), scratch.panel + j * (D / 2), D, scratch.scores + r * kBlockKeys + j * 32);
  }
  for (int64_t r = 0; r < rows; r += 16) {
    Softmax(seen(r, 16), rows - r, scratch.scores + r / 32 * 32 * kBlockKeys + r % 32, scratch.key_begin + r,
            scratch.key_end + r, scratch.weights + r * (kBlockKeys / 2), scratch.decay + r, state.m + row + r,
            state.l + row + r);
  }
  FillValuePanel(static_cast<const Kv*>(segment.v) + block.begin * D, keys, D, scratch.panel);
  for (int64_t d = 0; d < D; d += 32) {
    for (int64_t r = 0; r < rows; r += kTileRows) {
      kValueTiles[std::min(kTileRows, rows - r)](
          scratch.weights + r / 16 * 16 * (kBlockKeys / 2) + r % 16, scratch.panel + d / 32 * (kBlockKeys / 2 * 32),
          scratch.key_begin + r, scratch.key_end + r, scratch.decay + r, state.y + (row + r) * D + d, D);
    }
  }
}

}  // namespace

void FlowAccumulateAvx512Bf16(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  if (tile.head_dim % 64 != 0 || tile.rows <= avx512::kFlowKvRows) {
    FlowAccumulateAvx512(tile, segment, state);  // decode waits for memory, not for products
    return;
  }
  Scratch scratch;
  const auto attend = tile.kv_type == KvType::kFloat32 ? AttendBlock<float> : AttendBlock<uint16_t>;
  for (int64_t row = 0; row < tile.rows; row += kPassRows) {
    const int64_t row_end = std::min(row + kPassRows, tile.rows);
    FillQueryPanel(tile.q + row * tile.head_dim, row_end - row, tile.head_dim, scratch.q);
    ForEachBlock(tile, segment, row, row_end, kBlockKeys,
                 [&](const KeyRange& block) { attend(tile, segment, block, row, row_end, state, scratch); });
  }
}

}  // namespace ryzen_npu_gemma::kernels
