#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

uint32_t Detect() {
  uint32_t features = kAnyCpu;
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    features |= kAvx2;
  }
  if ((features & kAvx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    features |= kAvx512Vnni;
  }
  if ((features & kAvx512Vnni) && __builtin_cpu_supports("avx512bf16")) features |= kAvx512Bf16;
#endif
  return features;
}

}  // namespace

uint32_t CpuFeatures() {
  static const uint32_t features = Detect();
  return features;
}

}  // namespace ryzen_npu_gemma::kernels
