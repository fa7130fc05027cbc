#include <cstring>

#include "kernels/float16.h"
#include "kernels/kv_store/kv_store.h"

namespace ryzen_npu_gemma::kernels {

void KvStoreReference(const float* x, int64_t n, KvType type, void* y) {
  if (type == KvType::kFloat32) {
    std::memcpy(y, x, static_cast<std::size_t>(n) * sizeof(float));
    return;
  }
  auto* y16 = static_cast<uint16_t*>(y);
  for (int64_t i = 0; i < n; ++i) y16[i] = FloatToFloat16(x[i]);
}

}  // namespace ryzen_npu_gemma::kernels
