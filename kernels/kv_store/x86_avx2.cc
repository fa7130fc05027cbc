#include <cstring>

#include "kernels/kv_store/kv_store.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels {

void KvStoreAvx2(const float* x, int64_t n, KvType type, void* y) {
  if (type == KvType::kFloat32) {
    std::memcpy(y, x, static_cast<std::size_t>(n) * sizeof(float));
    return;
  }
  auto* y16 = static_cast<uint16_t*>(y);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y16 + i), h);
  }
  for (; i < n; ++i) y16[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}

}  // namespace ryzen_npu_gemma::kernels
