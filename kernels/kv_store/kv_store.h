// Stores fp32 rows as KV-cache elements: fp32 copied, fp16 rounded to nearest even (overflow becomes infinity).
#pragma once

#include <cstdint>

#include "kernels/flow_attention/flow_attention.h"

namespace ryzen_npu_gemma::kernels {

using KvStoreFn = void (*)(const float* x, int64_t n, KvType type, void* y);
KvStoreFn SelectKvStore();

}  // namespace ryzen_npu_gemma::kernels
