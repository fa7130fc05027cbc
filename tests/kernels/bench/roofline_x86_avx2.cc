// Peak rates of the AVX2 multiply-adds. Eight chains hide the latency of any x86 core; the operands stay in registers.
#include <immintrin.h>

#include <cstdint>

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int kChains = 10;

// Keeps a register's value unknown to the compiler, so that no step of a chain can be folded or left out.
template <typename Register>
void Opaque(Register& r) {
  asm volatile("" : "+x"(r));
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

int64_t Avx2Fp32(int64_t repetitions) {
  __m256 a = _mm256_set1_ps(1e-6f), b = a;
  Opaque(a);
  Opaque(b);
  Repeat(repetitions, a, [&](__m256 sum) { return _mm256_fmadd_ps(a, b, sum); });
  return repetitions * kChains * 8 * 2;
}

// What most int8 kernels for AVX2 do: pairs in 16 bits, then fours in 32, then the sum.
int64_t Avx2Int8(int64_t repetitions) {
  __m256i a = _mm256_set1_epi8(3), b = a, ones = _mm256_set1_epi16(1);
  Opaque(a);
  Opaque(b);
  Opaque(ones);
  Repeat(repetitions, a, [&](__m256i sum) {
    __m256i u = a;
    Opaque(u);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, b), ones));
  });
  return repetitions * kChains * 32 * 2;
}

// With 4-bit weights a whole group of 32 fits sums of 16 bits: no widening in the inner loop.
int64_t Avx2Int8Sums16(int64_t repetitions) {
  __m256i a = _mm256_set1_epi8(3), b = a;
  Opaque(a);
  Opaque(b);
  Repeat(repetitions, a, [&](__m256i sum) {
    __m256i u = a;
    Opaque(u);
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(u, b));
  });
  return repetitions * kChains * 32 * 2;
}

}  // namespace ryzen_npu_gemma::kernels
