// A span is eight registers. Three of the six stages of the rotation go across them, three across their lanes.
//
// Some spans are rotated before the first of them becomes codes: what a span's scale takes is a chain of instructions
// that wait for each other, which other spans fill, and four spans share.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/quantize_rotated_rows/quantize_rotated_rows.h"
#include "kernels/quantize_rows/quantize_rows.h"
#include "kernels/x86_avx512_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int kRegisters = 8;

// partner + x in lanes whose `bit` is clear, partner - x in the others; the partner is the lane with that bit turned.
template <int bit>
__m512 AddAcrossLanes(__m512 x) {
  static_assert(bit == 1 || bit == 2 || bit == 8);
  const auto sign = [](int lane) { return lane & bit ? -1.0f : 1.0f; };
  const __m512 signs = _mm512_setr_ps(sign(0), sign(1), sign(2), sign(3), sign(4), sign(5), sign(6), sign(7), sign(8),
                                      sign(9), sign(10), sign(11), sign(12), sign(13), sign(14), sign(15));
  __m512 partner;
  if constexpr (bit == 1) partner = _mm512_permute_ps(x, 0xb1);
  if constexpr (bit == 2) partner = _mm512_permute_ps(x, 0x4e);
  if constexpr (bit == 8) partner = _mm512_shuffle_f32x4(x, x, 0x4e);
  return _mm512_fmadd_ps(x, signs, partner);
}

template <int bit>
void AddAcrossLanes(__m512 (&x)[kRegisters]) {
#pragma GCC unroll 8
  for (__m512& v : x) v = AddAcrossLanes<bit>(v);
}

void Rotate(__m512 (&x)[kRegisters]) {
  AddAcrossLanes<1>(x);
  AddAcrossLanes<2>(x);
  AddAcrossLanes<8>(x);
#pragma GCC unroll 3
  for (int step = 1; step < kRegisters; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kRegisters; ++i) {
      if (i & step) continue;
      const __m512 a = x[i], b = x[i + step];
      x[i] = _mm512_add_ps(a, b);
      x[i + step] = _mm512_sub_ps(a, b);
    }
  }
}

// The largest |x| of each lane, compared as integers, so that a NaN is larger than all.
__m512i Largest(const __m512 (&x)[kRegisters]) {
  __m512i m[kRegisters];
#pragma GCC unroll 8
  for (int i = 0; i < kRegisters; ++i)
    m[i] = _mm512_and_si512(_mm512_castps_si512(x[i]), _mm512_set1_epi32(0x7fffffff));
#pragma GCC unroll 3
  for (int step = 1; step < kRegisters; step *= 2)
#pragma GCC unroll 4
    for (int i = 0; i < kRegisters; i += 2 * step) m[i] = _mm512_max_epi32(m[i], m[i + step]);
  return m[0];
}

// 64 codes, in order of RotatedPosition.
__m512i Codes(const float* r, float inverse) {
  __m512i code[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    code[i] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(r + 16 * i), _mm512_set1_ps(inverse)));
  // Packing leaves columns 4i..4i+3 of each register apart.
  const __m512i quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(code[0], code[1]), _mm512_packs_epi32(code[2], code[3]));
  const __m512i bytes = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, packed), order);
  return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
}

// Spans under way.
struct Batch {
  static constexpr int kSpans = 16;  // 4, 8, 32: 39, 7 and 0 % slower (rows of 2048 on Zen 5)

  alignas(64) float r[kSpans][kSpanColumns];
  __m512i largest[kSpans] = {};
  RotatedSpan* q[kSpans];

  void Rotate(int i, const float* x, RotatedSpan* span) {
    q[i] = span;
    // Asks for what Quantize will write: other cores have read what was there before, and a store waits for theirs.
    __builtin_prefetch(span->code, 1);
    __builtin_prefetch(span->code + 64, 1);
    __builtin_prefetch(&span->scale, 1);
    __m512 v[kRegisters];
#pragma GCC unroll 8
    for (int j = 0; j < kRegisters; ++j) v[j] = _mm512_loadu_ps(x + 16 * j);
    kernels::Rotate(v);
#pragma GCC unroll 8
    for (int j = 0; j < kRegisters; ++j) _mm512_store_ps(r[i] + 16 * j, v[j]);
    largest[i] = Largest(v);
  }

  // Writes the first n.
  void Quantize(int n) {
    static_assert(kSpans % 4 == 0);  // beyond n four at a time meet what an earlier batch has left
    alignas(16) float inverse[kSpans], scale[kSpans];
    for (int i = 0; i < n; i += 4) {
      const __m128 max = _mm_castsi128_ps(avx512::Largest4(largest[i], largest[i + 1], largest[i + 2], largest[i + 3]));
      const __mmask8 finite = _mm_cmp_ps_mask(max, _mm_set1_ps(std::numeric_limits<float>::max()), _CMP_LE_OQ);
      const __mmask8 plain = _mm_mask_cmp_ps_mask(finite, max, _mm_set1_ps(kSmallestMagnitude), _CMP_GE_OQ);
      const __m128 nan = _mm_set1_ps(std::numeric_limits<float>::quiet_NaN());
      _mm_store_ps(inverse + i, _mm_maskz_div_ps(plain, _mm_set1_ps(127), max));
      _mm_store_ps(scale + i, _mm_mask_mov_ps(nan, finite, _mm_maskz_div_ps(plain, max, _mm_set1_ps(127))));
    }
    for (int i = 0; i < n; ++i) {
      q[i]->scale = scale[i];
      if (std::isnan(scale[i])) {
        std::memset(q[i]->code, kRotatedZero, sizeof(q[i]->code));
        continue;
      }
      _mm512_storeu_si512(q[i]->code, Codes(r[i], inverse[i]));
      _mm512_storeu_si512(q[i]->code + 64, Codes(r[i] + 64, inverse[i]));
    }
  }
};

}  // namespace

void QuantizeRotatedRowsAvx512(const float* x, int64_t rows, int64_t ldx, int64_t K, RotatedSpan* q, int64_t ldq) {
  Batch batch;
  int n = 0;
  for (int64_t m = 0; m < rows; ++m, x += ldx) {
    for (int64_t k = 0; k < K; k += kSpanColumns) {
      batch.Rotate(n, x + k, &q[k / kSpanColumns * ldq + m]);
      if (++n == Batch::kSpans) {
        batch.Quantize(n);
        n = 0;
      }
    }
  }
  batch.Quantize(n);
}

}  // namespace ryzen_npu_gemma::kernels
