#include "kernels/flow_attention/x86_avx2.h"

namespace ryzen_npu_gemma::kernels {

void FlowAccumulateAvx2(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state) {
  if (tile.head_dim % 16 != 0) {
    FlowAccumulateReference(tile, segment, state);
  } else if (tile.rows <= avx2::kFlowKvRows) {
    avx2::FlowKv(tile, segment, state);
  } else {
    avx2::FlowQkv(tile, segment, state);
  }
}

}  // namespace ryzen_npu_gemma::kernels
