// Peak rates of the multiply-adds of x86: loops of assembler, so that nothing but the instructions asked for is timed.
// Twelve chains hide the latency of any core; the operands are zeros in registers.
#include <cstdint>

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int kChains = 12;

}  // namespace

// STEP(n) is one multiply-add of the chain in register n; registers 0, 1 are its operands, 2 and 3 are for temporaries.
#define LOOP(repetitions) \
  asm volatile("vzeroall\n"                                                                                     \
               "1:\n" STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13)       \
               STEP(14) STEP(15)                                                                                \
               "dec %0\n"                                                                                       \
               "jnz 1b\n"                                                                                       \
               "vzeroupper\n"                                                                                   \
               : "+r"(repetitions)                                                                              \
               :                                                                                                \
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                 "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

int64_t Avx2Fp32(int64_t repetitions) {
  const int64_t operations = repetitions * kChains * 8 * 2;
#define STEP(n) "vfmadd231ps %%ymm0, %%ymm1, %%ymm" #n "\n"
  LOOP(repetitions);
#undef STEP
  return operations;
}

// What most int8 kernels for AVX2 do: pairs in 16 bits, then fours in 32, then the sum.
int64_t Avx2Int8(int64_t repetitions) {
  const int64_t operations = repetitions * kChains * 32 * 2;
#define STEP(n)                         \
  "vpmaddubsw %%ymm0, %%ymm1, %%ymm2\n" \
  "vpmaddwd %%ymm2, %%ymm1, %%ymm3\n"   \
  "vpaddd %%ymm3, %%ymm" #n ", %%ymm" #n "\n"
  LOOP(repetitions);
#undef STEP
  return operations;
}

// With 4-bit weights a whole group of 32 fits sums of 16 bits: no widening in the inner loop.
int64_t Avx2Int8Sums16(int64_t repetitions) {
  const int64_t operations = repetitions * kChains * 32 * 2;
#define STEP(n)                         \
  "vpmaddubsw %%ymm0, %%ymm1, %%ymm2\n" \
  "vpaddw %%ymm2, %%ymm" #n ", %%ymm" #n "\n"
  LOOP(repetitions);
#undef STEP
  return operations;
}

int64_t Avx512Fp32(int64_t repetitions) {
  const int64_t operations = repetitions * kChains * 16 * 2;
#define STEP(n) "vfmadd231ps %%zmm0, %%zmm1, %%zmm" #n "\n"
  LOOP(repetitions);
#undef STEP
  return operations;
}

int64_t Avx512Bf16(int64_t repetitions) {
  const int64_t operations = repetitions * kChains * 32 * 2;
#define STEP(n) "vdpbf16ps %%zmm0, %%zmm1, %%zmm" #n "\n"
  LOOP(repetitions);
#undef STEP
  return operations;
}

int64_t Avx512Vnni(int64_t repetitions) {
  const int64_t operations = repetitions * kChains * 64 * 2;
#define STEP(n) "vpdpbusd %%zmm0, %%zmm1, %%zmm" #n "\n"
  LOOP(repetitions);
#undef STEP
  return operations;
}

}  // namespace ryzen_npu_gemma::kernels
