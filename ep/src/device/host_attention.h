// FlowQKV and FlowKV on the host: one code path. The queries are cut into tiles (a few positions x the heads of one KV
// head), the keys of a tile into splits; each (tile, split) is one unit of work and the partial softmax states of a
// tile are merged. So a one-token call with one KV head still uses every thread, and the result does not depend on how
// many there are.
#pragma once

#include "ep/src/device/run.h"
#include "ep/src/device/scratch.h"
#include "ep/src/device/threads.h"
#include "ep/src/launch_times.h"
#include "ep/src/plan.h"

namespace ryzen_npu_gemma::ep {

// cos and sin [rows, head_dim / 2] of the positions past_len .. past_len + rows - 1.
struct RopeTable {
  Scratch cos_sin;
  const float* cos = nullptr;
  const float* sin = nullptr;
};
void FillRopeTable(const Rope& rope, int64_t past_len, int64_t rows, Threads& threads, RopeTable& table);

// How much of the text is in the cache, which cache convention the caller keeps, and the block of the call's new rows
// that is to be done. The blocks before it are in `present` already.
struct AttentionCall {
  int64_t past_len = 0;
  bool shared = false;
  int64_t total_rows = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t queries = 0;  // so many of the rows, the last ones, ask; all give their keys and values
  bool fast = false;    // accuracy=fast
};

struct AttentionScratch {
  Scratch q, k, v, state;
};

// Runs one attention launch over a block of new tokens; k, v are fp32 [rows, kv_heads * head_dim] of the block, q, y
// [queries, heads * head_dim]; `rope` is that of the rows. What the queries see of the past is read before the present
// is written over it (they may be one buffer). y must not overlap q: rows of one are written while others are read.
// Throws Error when the cache does not hold the call.
void RunAttention(const FlowAttention& f, const AttentionCall& call, const float* q, const float* k, const float* v,
                  float* y, const RopeTable& rope, RunTensors& tensors, Threads& threads, AttentionScratch& scratch,
                  LaunchTimes* times = nullptr);

}  // namespace ryzen_npu_gemma::ep
