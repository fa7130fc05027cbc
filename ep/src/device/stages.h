// Which launches of a plan run together. Those that go row by row (an embedding, norms, GeGLU, additions, and the
// quantising that opens a product) are one chain (row_chain.h) where nothing but such launches of the same rows stands
// between them.
#pragma once

#include <vector>

#include "ep/src/plan.h"

namespace ryzen_npu_gemma::ep {

// Launches [begin, end) of a plan, all of the same rows: any number that go row by row, then at most one that does not.
struct Stage {
  std::size_t begin, end;
  std::vector<int> passing;  // indices of Plan::buffers: what the chain writes and nobody reads after it
};

// All launches of the plan, in order.
std::vector<Stage> StagesOf(const Plan& plan);

}  // namespace ryzen_npu_gemma::ep
