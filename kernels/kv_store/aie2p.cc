// A row of keys or values in the cache's type: n fp32 sums rounded to bf16 at y + y_offset.
//   x [n] fp32      y bf16      n and y_offset multiples of 32
#include "kernels/aie2p.h"

AIE2P_KERNEL void kv_store_aie2p(const float* __restrict x, bfloat16* __restrict y, int32_t n, int32_t y_offset) {
  aie2p::SetUpRounding();
  constexpr unsigned kLanes = 32;
  for (int32_t i = 0; i < n; i += kLanes) {
    const aie::accum<accfloat, kLanes> row(aie::load_v<kLanes>(x + i));
    aie::store_v(y + y_offset + i, row.template to_vector<bfloat16>());
  }
}
