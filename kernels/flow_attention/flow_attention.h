// Attention with an online softmax, shared by FlowQKV (prefill: many queries) and FlowKV (decode: one query position,
// the KV sequence split over workers and the partials merged).
//
//   score(r, p) = q_r . k_p        q is normed, rotated and scaled already
//   y_r = sum_p softmax(score(r, .))_p v_p    over the keys p that row r may see:  p <= pos_r, and p > pos_r - window
//
// A tile is `rows` query rows of one KV head. Its rows are (position, head) pairs, heads fastest:
// row r asks at position first_position + r / group, where group = query heads per KV head. So each K and V byte that
// is read serves all the query heads of its group.
#pragma once

#include <cstdint>
#include <type_traits>

namespace ryzen_npu_gemma::kernels {

enum class KvType { kFloat32, kFloat16 };

// Keys and values of consecutive positions, contiguous rows: k, v [rows, head_dim] in KvType.
struct KvSegment {
  const void* k = nullptr;
  const void* v = nullptr;
  int64_t first_position = 0;
  int64_t rows = 0;
};

inline constexpr int64_t kMaxHeadDim = 512;

struct QueryTile {
  const float* q = nullptr;  // [rows, head_dim]
  int64_t rows = 0;
  int64_t head_dim = 0;  // at most kMaxHeadDim
  int64_t first_position = 0;
  int64_t group = 1;
  int64_t window = 0;  // 0: global; else a key is seen iff position > query position - window
  KvType kv_type = KvType::kFloat16;
};

// Running maximum, sum and unnormalised output of each row: m [rows], l [rows], y [rows, head_dim].
struct SoftmaxState {
  float* m = nullptr;
  float* l = nullptr;
  float* y = nullptr;
};

void ResetSoftmax(const SoftmaxState& state, int64_t rows, int64_t head_dim);  // m = -inf, l = 0, y = 0

// Streams the keys of one segment through the state; keys that no row may see are skipped, not masked.
using FlowAccumulateFn = void (*)(const QueryTile& tile, const KvSegment& segment, const SoftmaxState& state);
FlowAccumulateFn SelectFlowAccumulate();
FlowAccumulateFn SelectFlowAccumulateFast();  // the products of a prompt may be of bf16

#define KERNEL(required, name) std::remove_pointer_t<FlowAccumulateFn> name;
#include "kernels/flow_attention/fast_kernels.inc"
#undef KERNEL

// into += part, both over the same rows.
void MergeSoftmax(const SoftmaxState& part, int64_t rows, int64_t head_dim, const SoftmaxState& into);

// out = y / l; a row that saw no key becomes zero.
//   out row of (position i, head g) = out + i * position_stride + g * head_dim
void FinishSoftmax(const SoftmaxState& state, int64_t rows, int64_t head_dim, int64_t group, int64_t position_stride,
                   float* out);

}  // namespace ryzen_npu_gemma::kernels
