// FusedDQP: few rows of activations, weights dequantised in registers and never written back.
//
// A nibble is multiplied where it stands in its word: nibble c reads as q * 16^c, and its activation carries 16^-c
// (powers of two, exact). Only the top nibble, which would be negative, is shifted down. So 8 weights cost and,
// convert, FMA.
//   y_n = sum over groups of  scale * (sum_c q_c x_c) + min * (sum_c x_c)
#include <algorithm>

#include "kernels/matmul_nbits/x86_avx2.h"
#include "kernels/matmul_nbits/x86_prefetch_stream.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels::avx2 {

namespace {

// Columns of x that are prepared at a time; a longer row takes several passes over the strips, which read worse.
constexpr int64_t kColumns = 10240;

struct Activations {
  alignas(32) float x[kFusedRows][kColumns];   // times the power of two of the column's place in its word
  float group_sum[kFusedRows][kColumns / 32];  // of the plain x
};

void Prepare(const float* a, int64_t columns, __m256 place, float* x, float* group_sum) {
  for (int64_t k = 0; k < columns; k += 32) {
    __m256 sum = _mm256_setzero_ps();
    for (int64_t c = k; c < k + 32; c += 8) {
      const __m256 x8 = _mm256_loadu_ps(a + c);
      sum = _mm256_add_ps(sum, x8);
      _mm256_store_ps(x + c, _mm256_mul_ps(x8, place));
    }
    group_sum[k / 32] = Sum(sum);
  }
}

__m256i LoadWords(const uint8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

// Rows 0..7 and 8..15 of a strip, for each row of activations.
template <int kRows>
struct StripSum {
  __m256 low[kRows], high[kRows];

  void Clear() {
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) low[m] = high[m] = _mm256_setzero_ps();
  }
  void Add(const StripSum& other) {
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      low[m] = _mm256_add_ps(low[m], other.low[m]);
      high[m] = _mm256_add_ps(high[m], other.high[m]);
    }
  }
  void MultiplyAdd(__m256 a_low, __m256 a_high, const StripSum& b) {
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      low[m] = _mm256_fmadd_ps(a_low, b.low[m], low[m]);
      high[m] = _mm256_fmadd_ps(a_high, b.high[m], high[m]);
    }
  }
  void MultiplyAdd(__m256 a_low, __m256 a_high, const float* b, int64_t b_stride) {
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const __m256 b8 = _mm256_broadcast_ss(b + m * b_stride);
      low[m] = _mm256_fmadd_ps(a_low, b8, low[m]);
      high[m] = _mm256_fmadd_ps(a_high, b8, high[m]);
    }
  }
};

// One or two rows have too few sums in flight to hide the FMA's latency: two chains then, of even and of odd columns.
template <int kRows>
constexpr int kChains = kRows <= 2 ? 2 : 1;

template <int kRows>
StripSum<kRows> Strip4(const uint8_t* group, int64_t groups, const Activations& activations) {
  StripSum<kRows> total;
  total.Clear();
  for (int64_t g = 0; g < groups; ++g, group += kStripGroupBytes4) {
    PrefetchStream<kStripGroupBytes4>(group);
    const float* x = activations.x[0] + g * 32;
    StripSum<kRows> sum[2];
    sum[0].Clear();
    sum[1].Clear();
#pragma GCC unroll 4
    for (int chunk = 0; chunk < 4; ++chunk) {
      const __m256i words_low = LoadWords(group + 64 + chunk * 64);
      const __m256i words_high = LoadWords(group + 96 + chunk * 64);
#pragma GCC unroll 8
      for (int c = 0; c < 8; ++c) {
        const __m256i mask = _mm256_set1_epi32(0xf << (c * 4 % 28));
        const __m256i q_low = c < 7 ? _mm256_and_si256(words_low, mask) : _mm256_srli_epi32(words_low, 28);
        const __m256i q_high = c < 7 ? _mm256_and_si256(words_high, mask) : _mm256_srli_epi32(words_high, 28);
        sum[c % kChains<kRows>].MultiplyAdd(_mm256_cvtepi32_ps(q_low), _mm256_cvtepi32_ps(q_high), x + chunk * 8 + c,
                                            kColumns);
      }
    }
    if (kChains<kRows> == 2) sum[0].Add(sum[1]);
    total.MultiplyAdd(LoadBfloat16x8(group), LoadBfloat16x8(group + 16), sum[0]);
    total.MultiplyAdd(LoadBfloat16x8(group + 32), LoadBfloat16x8(group + 48), activations.group_sum[0] + g,
                      kColumns / 32);
  }
  return total;
}

template <int kRows>
StripSum<kRows> Strip8(const uint8_t* group, int64_t groups, const Activations& activations) {
  StripSum<kRows> total;
  total.Clear();
  for (int64_t g = 0; g < groups; ++g, group += kStripGroupBytes8) {
    PrefetchStream<kStripGroupBytes8>(group);
    const float* x = activations.x[0] + g * 32;
    StripSum<kRows> sum[2];
    sum[0].Clear();
    sum[1].Clear();
#pragma GCC unroll 8
    for (int chunk = 0; chunk < 8; ++chunk) {
      const __m256i words_low = LoadWords(group + 32 + chunk * 64);
      const __m256i words_high = LoadWords(group + 64 + chunk * 64);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        const __m256i code_low = _mm256_srai_epi32(_mm256_slli_epi32(words_low, 24 - 8 * c), 24);
        const __m256i code_high = _mm256_srai_epi32(_mm256_slli_epi32(words_high, 24 - 8 * c), 24);
        sum[c % kChains<kRows>].MultiplyAdd(_mm256_cvtepi32_ps(code_low), _mm256_cvtepi32_ps(code_high),
                                            x + chunk * 4 + c, kColumns);
      }
    }
    if (kChains<kRows> == 2) sum[0].Add(sum[1]);
    total.MultiplyAdd(LoadBfloat16x8(group), LoadBfloat16x8(group + 16), sum[0]);
  }
  return total;
}

// y (+)= sum, of which `columns` of 16 columns exist
void Store(__m256 low, __m256 high, int64_t columns, bool add, float* y) {
  alignas(32) float strip[kStripRows];
  _mm256_store_ps(strip, low);
  _mm256_store_ps(strip + 8, high);
  for (int64_t n = 0; n < columns; ++n) y[n] = add ? y[n] + strip[n] : strip[n];
}

template <int kRows>
void Multiply(const NBitsShape& shape, const float* a, int64_t lda, const uint8_t* packed, int64_t strip_begin,
              int64_t strip_end, float* y, int64_t ldy) {
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 place4 = _mm256_setr_ps(1.0f, 0x1p-4f, 0x1p-8f, 0x1p-12f, 0x1p-16f, 0x1p-20f, 0x1p-24f, 1.0f);
  Activations activations;
  for (int64_t k = 0; k < shape.K; k += kColumns) {
    const int64_t columns = std::min(kColumns, shape.K - k);
    for (int m = 0; m < kRows; ++m) {
      Prepare(a + m * lda + k, columns, shape.bits == 4 ? place4 : one, activations.x[m], activations.group_sum[m]);
    }
    for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
      const uint8_t* group = packed + strip * shape.strip_bytes() + k / 32 * shape.group_bytes();
      const StripSum<kRows> sum = shape.bits == 4 ? Strip4<kRows>(group, columns / 32, activations)
                                                  : Strip8<kRows>(group, columns / 32, activations);
      const int64_t n = strip * kStripRows;
      for (int m = 0; m < kRows; ++m) {
        Store(sum.low[m], sum.high[m], std::min(kStripRows, shape.N - n), k > 0, y + m * ldy + n);
      }
    }
  }
}

}  // namespace

void FusedDqp(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
              int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  static_assert(kFusedRows == 4);
  constexpr decltype(&Multiply<1>) kMultiply[] = {Multiply<1>, Multiply<2>, Multiply<3>, Multiply<4>};
  kMultiply[M - 1](shape, a, lda, packed, strip_begin, strip_end, y, ldy);
}

}  // namespace ryzen_npu_gemma::kernels::avx2
