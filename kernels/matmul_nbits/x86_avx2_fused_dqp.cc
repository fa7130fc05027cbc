// FusedDQP: one row of activations, weights dequantised in registers and used once.
//
// A nibble is multiplied where it stands in its word: nibble c reads as q * 16^c, and its activation carries 16^-c
// (powers of two, exact). Only the top nibble, which would be negative, is shifted down. So 8 weights cost and,
// convert, FMA.
//   y_n = sum over groups of  scale * (sum_c q_c x_c) + min * (sum_c x_c)
#include <algorithm>

#include "kernels/matmul_nbits/x86_avx2.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels::avx2 {

namespace {

// Columns of x that are prepared at a time; a longer row takes several passes over y.
constexpr int64_t kColumns = 4096;

struct Activations {
  alignas(32) float x[kColumns];   // times the power of two of the column's place in its word
  float group_sum[kColumns / 32];  // of the plain x
};

void Prepare(const float* a, int64_t columns, __m256 place, Activations& activations) {
  for (int64_t k = 0; k < columns; k += 32) {
    __m256 sum = _mm256_setzero_ps();
    for (int64_t c = k; c < k + 32; c += 8) {
      const __m256 x = _mm256_loadu_ps(a + c);
      sum = _mm256_add_ps(sum, x);
      _mm256_store_ps(activations.x + c, _mm256_mul_ps(x, place));
    }
    activations.group_sum[k / 32] = Sum(sum);
  }
}

__m256i LoadWords(const uint8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

struct StripSum {
  __m256 low, high;  // rows 0..7, 8..15
};

StripSum Strip4(const uint8_t* group, int64_t groups, const Activations& activations) {
  StripSum total = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  const float* x = activations.x;
  for (int64_t g = 0; g < groups; ++g, group += kStripGroupBytes4, x += 32) {
    __m256 low[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    __m256 high[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
#pragma GCC unroll 4
    for (int chunk = 0; chunk < 4; ++chunk) {
      const __m256i words_low = LoadWords(group + 64 + chunk * 64);
      const __m256i words_high = LoadWords(group + 96 + chunk * 64);
#pragma GCC unroll 8
      for (int c = 0; c < 8; ++c) {
        const __m256i mask = _mm256_set1_epi32(0xf << (c * 4 % 28));
        const __m256i q_low = c < 7 ? _mm256_and_si256(words_low, mask) : _mm256_srli_epi32(words_low, 28);
        const __m256i q_high = c < 7 ? _mm256_and_si256(words_high, mask) : _mm256_srli_epi32(words_high, 28);
        const __m256 x8 = _mm256_broadcast_ss(x + chunk * 8 + c);
        low[c % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(q_low), x8, low[c % 2]);
        high[c % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(q_high), x8, high[c % 2]);
      }
    }
    const __m256 sum_x = _mm256_broadcast_ss(activations.group_sum + g);
    total.low = _mm256_fmadd_ps(LoadBfloat16x8(group), _mm256_add_ps(low[0], low[1]), total.low);
    total.high = _mm256_fmadd_ps(LoadBfloat16x8(group + 16), _mm256_add_ps(high[0], high[1]), total.high);
    total.low = _mm256_fmadd_ps(LoadBfloat16x8(group + 32), sum_x, total.low);
    total.high = _mm256_fmadd_ps(LoadBfloat16x8(group + 48), sum_x, total.high);
  }
  return total;
}

StripSum Strip8(const uint8_t* group, int64_t groups, const Activations& activations) {
  StripSum total = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  const float* x = activations.x;
  for (int64_t g = 0; g < groups; ++g, group += kStripGroupBytes8, x += 32) {
    __m256 low[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    __m256 high[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
#pragma GCC unroll 8
    for (int chunk = 0; chunk < 8; ++chunk) {
      const __m256i words_low = LoadWords(group + 32 + chunk * 64);
      const __m256i words_high = LoadWords(group + 64 + chunk * 64);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        const __m256i code_low = _mm256_srai_epi32(_mm256_slli_epi32(words_low, 24 - 8 * c), 24);
        const __m256i code_high = _mm256_srai_epi32(_mm256_slli_epi32(words_high, 24 - 8 * c), 24);
        const __m256 x8 = _mm256_broadcast_ss(x + chunk * 4 + c);
        low[c % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(code_low), x8, low[c % 2]);
        high[c % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(code_high), x8, high[c % 2]);
      }
    }
    total.low = _mm256_fmadd_ps(LoadBfloat16x8(group), _mm256_add_ps(low[0], low[1]), total.low);
    total.high = _mm256_fmadd_ps(LoadBfloat16x8(group + 16), _mm256_add_ps(high[0], high[1]), total.high);
  }
  return total;
}

// y (+)= sum, of which only `rows` rows exist
void Store(const StripSum& sum, int64_t rows, bool add, float* y) {
  alignas(32) float strip[kStripRows];
  _mm256_store_ps(strip, sum.low);
  _mm256_store_ps(strip + 8, sum.high);
  for (int64_t r = 0; r < rows; ++r) y[r] = add ? y[r] + strip[r] : strip[r];
}

}  // namespace

void FusedDqp(const NBitsShape& shape, const float* a, const uint8_t* packed, int64_t strip_begin, int64_t strip_end,
              float* y) {
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 place4 = _mm256_setr_ps(1.0f, 0x1p-4f, 0x1p-8f, 0x1p-12f, 0x1p-16f, 0x1p-20f, 0x1p-24f, 1.0f);
  Activations activations;
  for (int64_t k = 0; k < shape.K; k += kColumns) {
    const int64_t columns = std::min(kColumns, shape.K - k);
    Prepare(a + k, columns, shape.bits == 4 ? place4 : one, activations);
    for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
      const uint8_t* group = packed + strip * shape.strip_bytes() + k / 32 * shape.group_bytes();
      const StripSum sum =
          shape.bits == 4 ? Strip4(group, columns / 32, activations) : Strip8(group, columns / 32, activations);
      const int64_t n = strip * kStripRows;
      Store(sum, std::min(kStripRows, shape.N - n), k > 0, y + n);
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels::avx2
