#include "kernels/flow_attention/x86_avx512.h"

namespace ryzen_npu_gemma::kernels {

void FlowAccumulateAvx512(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  if (tile.head_dim % 64 != 0) {
    FlowAccumulateAvx2(tile, segment, state);
  } else if (tile.rows <= avx512::kFlowKvRows) {
    avx512::FlowKv(tile, segment, state);
  } else {
    avx512::FlowQkv(tile, segment, state);
  }
}

}  // namespace ryzen_npu_gemma::kernels
