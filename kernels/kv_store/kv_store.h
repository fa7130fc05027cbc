// Stores fp32 rows as KV-cache elements: fp32 copied, fp16 rounded to nearest even (overflow becomes infinity).
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/flow_attention/flow_attention.h"

namespace ryzen_npu_gemma::kernels {

using KvStoreFn = void (*)(const float* x, int64_t n, KvType type, void* y);
KvStoreFn SelectKvStore();

#define KERNEL(required, name) std::remove_pointer_t<KvStoreFn> name;
#include "kernels/kv_store/kernels.inc"
#undef KERNEL

}  // namespace ryzen_npu_gemma::kernels
