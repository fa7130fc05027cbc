// The two AVX-512 engines behind FlowAccumulateAvx512. Both take the keys in blocks, as those of x86_avx2.h do;
// head_dim is a multiple of 64.
#pragma once

#include "kernels/flow_attention/flow_attention.h"
#include "kernels/flow_attention/visible_keys.h"
#include "kernels/x86_avx512_math.h"

namespace ryzen_npu_gemma::kernels::avx512 {

inline constexpr int64_t kBlockKeys = 32;  // a multiple of 16
inline constexpr int64_t kFlowKvRows = 4;

// At most kFlowKvRows rows: K and V are read once, straight into registers.
void FlowKv(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state);

// Any number of rows: a block of K and V is converted to fp32 panels once and meets all of them.
void FlowQkv(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state);

}  // namespace ryzen_npu_gemma::kernels::avx512
