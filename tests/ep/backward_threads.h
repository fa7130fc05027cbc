// One thread, which takes ranges in reverse order: nothing may depend on their order.
#pragma once

#include <algorithm>

#include "ep/src/device/threads.h"

namespace ryzen_npu_gemma::ep {

class BackwardThreads final : public Threads {
  void Run(int64_t n, int64_t grain, RangeFn fn, void* arg) override {
    for (int64_t i = (n - 1) / grain * grain; i >= 0; i -= grain) fn(arg, i, std::min(i + grain, n));
  }
};

}  // namespace ryzen_npu_gemma::ep
