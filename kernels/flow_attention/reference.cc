// One key at a time: each key is read once and meets every row that may see it. Also the portable row: the loops over
// head_dim are ones that compilers vectorise.
#include <cmath>
#include <limits>

#include "kernels/float16.h"
#include "kernels/flow_attention/flow_attention.h"
#include "kernels/flow_attention/visible_keys.h"

namespace ryzen_npu_gemma::kernels {

namespace {

void ReadRow(const void* rows, KvType type, int64_t row, int64_t head_dim, float* out) {
  for (int64_t d = 0; d < head_dim; ++d) {
    out[d] = type == KvType::kFloat32 ? static_cast<const float*>(rows)[row * head_dim + d]
                                      : Float16ToFloat(static_cast<const uint16_t*>(rows)[row * head_dim + d]);
  }
}

float Dot(const float* a, const float* b, int64_t n) {
  float sum[8] = {};
  for (int64_t i = 0; i < n; ++i) sum[i % 8] += a[i] * b[i];
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

}  // namespace

void FlowAccumulateReference(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  if (tile.rows == 0) return;
  const int64_t D = tile.head_dim;
  float k[kMaxHeadDim], v[kMaxHeadDim];
  const int64_t end = VisibleKeys(tile, segment, tile.rows - 1).end;
  for (int64_t key = VisibleKeys(tile, segment, 0).begin; key < end; ++key) {
    ReadRow(segment.k, tile.kv_type, key, D, k);
    ReadRow(segment.v, tile.kv_type, key, D, v);
    for (int64_t r = 0; r < tile.rows; ++r) {
      const KeyRange visible = VisibleKeys(tile, segment, r);
      if (key < visible.begin || key >= visible.end) continue;
      const float score = Dot(tile.q + r * D, k, D);
      const float m = std::max(state.m[r], score);
      if (m == -std::numeric_limits<float>::infinity() && !std::isnan(score)) continue;
      const float decay = std::exp(state.m[r] - m);
      const float weight = std::exp(score - m);
      state.m[r] = m;
      state.l[r] = state.l[r] * decay + weight;
      float* y = state.y + r * D;
      for (int64_t d = 0; d < D; ++d) y[d] = y[d] * decay + weight * v[d];
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
