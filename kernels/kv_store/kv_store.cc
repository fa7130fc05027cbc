#include "kernels/kv_store/kv_store.h"

#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr KernelRow<KvStoreFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/kv_store/kernels.inc"
#undef KERNEL
};

}  // namespace

KvStoreFn SelectKvStore() {
  static const KvStoreFn fn = FirstSupported(kRows);
  return fn;
}

}  // namespace ryzen_npu_gemma::kernels
