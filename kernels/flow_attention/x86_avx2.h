// The two AVX2 engines behind FlowAccumulateAvx2, and what they share. Both take the keys in blocks:
//   1. scores s [rows][kBlockKeys] of the block's K
//   2. each row: the block's maximum, e^(s - m) in place of s; its old sum and output decay
//   3. the block's V, weighted, is added to the output
// Rows are taken in tiles that see the same keys of the block, so nothing is masked and a key that a row may not see
// does not touch it, NaN or not: at the edges of the window tiles get smaller.
#pragma once

#include <limits>

#include "kernels/flow_attention/flow_attention.h"
#include "kernels/flow_attention/visible_keys.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels::avx2 {

inline constexpr int64_t kBlockKeys = 32;  // a multiple of 16
inline constexpr int64_t kFlowKvRows = 4;

// At most kFlowKvRows rows: K and V are read once, straight into registers.
void FlowKv(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state);

// Any number of rows: a block of K and V is converted to fp32 panels once and meets all of them.
void FlowQkv(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state);

// Scores [kBlockKeys] of one row become e^(score - m), and 0 beside `keys` up to the next multiple of 8; m and l take
// the block in. Returns the factor by which the row's past decays.
inline float Softmax(float* scores, const KeyRange& keys, float& m, float& l) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  int64_t begin = keys.begin, end = keys.end;
  while (begin % 8 != 0) scores[--begin] = kMinusInfinity;
  while (end % 8 != 0) scores[end++] = kMinusInfinity;
  __m256 max = _mm256_set1_ps(m);
  for (int64_t j = begin; j < end; j += 8) max = _mm256_max_ps(max, Load8(scores + j));
  const float old_m = m;
  m = Max(max);
  // With every score at -inf the weights are 0, not e^(-inf + inf).
  const float base = m == kMinusInfinity ? 0.0f : m;
  __m256 sum = _mm256_setzero_ps();
  for (int64_t j = begin; j < end; j += 8) {
    const __m256 weights = Exp(_mm256_sub_ps(Load8(scores + j), _mm256_set1_ps(base)));
    _mm256_storeu_ps(scores + j, weights);
    sum = _mm256_add_ps(sum, weights);
  }
  const float decay = _mm256_cvtss_f32(Exp(_mm256_set1_ps(old_m - base)));
  l = l * decay + Sum(sum);
  return decay;
}

}  // namespace ryzen_npu_gemma::kernels::avx2
