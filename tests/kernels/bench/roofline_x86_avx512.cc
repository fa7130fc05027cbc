// Peak rates of the AVX-512 multiply-adds; as roofline_x86_avx2.cc.
#include <immintrin.h>

#include <cstdint>

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int kChains = 12;

template <typename Register>
void Opaque(Register& r) {
  asm volatile("" : "+v"(r));
}

template <typename Register, typename Step>
void Repeat(int64_t repetitions, Register seed, Step step) {
  Register chains[kChains];
  for (Register& chain : chains) chain = seed;
  for (int64_t i = 0; i < repetitions; ++i) {
    for (Register& chain : chains) chain = step(chain);
    for (Register& chain : chains) Opaque(chain);
  }
}

}  // namespace

int64_t Avx512Fp32(int64_t repetitions) {
  __m512 a = _mm512_set1_ps(1e-6f), b = a;
  Opaque(a);
  Opaque(b);
  Repeat(repetitions, a, [&](__m512 sum) { return _mm512_fmadd_ps(a, b, sum); });
  return repetitions * kChains * 16 * 2;
}

int64_t Avx512Vnni(int64_t repetitions) {
  __m512i a = _mm512_set1_epi8(3), b = a;
  Opaque(a);
  Opaque(b);
  Repeat(repetitions, a, [&](__m512i sum) { return _mm512_dpbusd_epi32(sum, a, b); });
  return repetitions * kChains * 64 * 2;
}

}  // namespace ryzen_npu_gemma::kernels
