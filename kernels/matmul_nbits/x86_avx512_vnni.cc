// FusedDQP in integers: fp32 activations as fixed point of 24 bits, a scale for each group of 32 columns, cut into
// three bytes ("limbs") for vpdpbusd. 24 of those replace 64 each of and, convert and FMA.
//
//   x = scale * (65536 limb2 + 256 limb1 + limb0),  scale = max |x| / kLargest
//
// The integer sums are exact, and a column's error is at most 2^-23 of the largest |x| of its group: what fp32 sums of
// that group round by. A group with a NaN or an infinity has scale NaN; one below 2^-100 becomes zero.
#include "kernels/matmul_nbits/x86_avx512_vnni.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>

#include "kernels/matmul_nbits/x86_avx2.h"

namespace ryzen_npu_gemma::kernels {

namespace {

using avx512::BroadcastCodes;

constexpr float kLargest = 0x7f7f00;  // 127 * 65536 + 127 * 256, and room for rounding up
constexpr float kSmallestMagnitude = 0x1p-100f;
constexpr int kLimbs = 3;

// Columns that are prepared at a time; a longer row takes several passes over the strips, which read worse.
constexpr int64_t kColumns = 10240;

struct LimbGroup {
  int8_t limb[kLimbs][32];  // in the order of Columns8
  int32_t start[kLimbs];    // of the integer sums: bits = 8 has weights + 128, and takes that back here
  float scale;
  float code_sum;  // bits = 4, for the min term
};

inline void PrepareGroup(const float* x, int bits, LimbGroup& group) {
  const __m512 x16[2] = {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)};
  // As integers the bits of |x| grow with |x|, and those of infinity and NaN are the largest.
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m512i largest = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(x16[0]), magnitude),
                                           _mm512_and_si512(_mm512_castps_si512(x16[1]), magnitude));
  const auto max = std::bit_cast<float>(_mm512_reduce_max_epi32(largest));
  if (!(max >= kSmallestMagnitude && max <= std::numeric_limits<float>::max())) {
    group = {};
    if (!(max < kSmallestMagnitude)) group.scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  group.scale = max / kLargest;
  const __m512 inverse = _mm512_set1_ps(kLargest / max);
  __m512i rest[2];
  for (int i = 0; i < 2; ++i) rest[i] = _mm512_cvtps_epi32(_mm512_mul_ps(x16[i], inverse));
  const int32_t sum = bits == 4 ? _mm512_reduce_add_epi32(_mm512_add_epi32(rest[0], rest[1])) : 0;
  group.code_sum = static_cast<float>(sum);
  const __m256i even_first =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
  for (int l = 0; l < kLimbs; ++l) {
    const __m256i bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(rest[1]), _mm512_cvtepi32_epi8(rest[0]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(group.limb[l]), _mm256_shuffle_epi8(bytes, even_first));
    group.start[l] = 0;
    if (bits == 8) {
      const __m256i sum128 = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(-128), bytes);
      group.start[l] = -_mm512_reduce_add_epi32(_mm512_zextsi256_si512(sum128));
    }
    // The byte just taken is signed: rounding to nearest leaves the rest.
    for (int i = 0; i < 2; ++i) rest[i] = _mm512_srai_epi32(_mm512_add_epi32(rest[i], _mm512_set1_epi32(128)), 8);
  }
}

void Prepare(const float* x, int64_t groups, int bits, LimbGroup* limbs) {
  for (int64_t g = 0; g < groups; ++g) PrepareGroup(x + g * 32, bits, limbs[g]);
}

// A strip's share of y for kRows rows.  a [kRows, kColumns/32]
template <typename Group, int kRows>
void Strip(const LimbGroup (*a)[kColumns / 32], int64_t groups, const uint8_t* strip, __m512 (&total)[kRows]) {
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) total[m] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; ++g) {
    const Group w(strip + g * Group::kBytes);
    __m512i sum[kRows][kLimbs];
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 3
      for (int l = 0; l < kLimbs; ++l) sum[m][l] = _mm512_set1_epi32(a[m][g].start[l]);
    }
#pragma GCC unroll 4
    for (int chunk = 0; chunk < 4; ++chunk) {
      const avx512::Columns8 w8 = w.Load(chunk);
#pragma GCC unroll 4
      for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 3
        for (int l = 0; l < kLimbs; ++l) {
          const int8_t* limb = a[m][g].limb[l] + chunk * 8;
          sum[m][l] = _mm512_dpbusd_epi32(sum[m][l], w8.even, BroadcastCodes(limb));
          sum[m][l] = _mm512_dpbusd_epi32(sum[m][l], w8.odd, BroadcastCodes(limb + 4));
        }
      }
    }
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const LimbGroup& x = a[m][g];
      const __m512 high = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sum[m][2], 8), sum[m][1]));
      const __m512 whole = _mm512_fmadd_ps(high, _mm512_set1_ps(256.0f), _mm512_cvtepi32_ps(sum[m][0]));
      const __m512 value = w.Dequantise(whole, _mm512_set1_ps(x.code_sum));
      total[m] = _mm512_fmadd_ps(_mm512_set1_ps(x.scale), value, total[m]);
    }
  }
}

template <typename Group, int kRows>
void Multiply(const NBitsShape& shape, const float* a, int64_t lda, const uint8_t* packed, int64_t strip_begin,
              int64_t strip_end, float* y, int64_t ldy) {
  LimbGroup limbs[kRows][kColumns / 32];
  for (int64_t k = 0; k < shape.K; k += kColumns) {
    const int64_t groups = std::min(kColumns, shape.K - k) / 32;
    for (int m = 0; m < kRows; ++m) Prepare(a + m * lda + k, groups, shape.bits, limbs[m]);
    for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
      __m512 total[kRows];
      Strip<Group, kRows>(limbs, groups, packed + strip * shape.strip_bytes() + k / 32 * Group::kBytes, total);
      const int64_t n = strip * kStripRows;
      const auto exist = static_cast<__mmask16>((1u << std::min(kStripRows, shape.N - n)) - 1);
      for (int m = 0; m < kRows; ++m) {
        float* row = y + m * ldy + n;
        if (k > 0) total[m] = _mm512_add_ps(total[m], _mm512_maskz_loadu_ps(exist, row));
        _mm512_mask_storeu_ps(row, exist, total[m]);
      }
    }
  }
}

template <typename Group>
constexpr decltype(&Multiply<Group, 1>) kMultiply[] = {Multiply<Group, 1>, Multiply<Group, 2>, Multiply<Group, 3>,
                                                       Multiply<Group, 4>};

}  // namespace

void MatMulNBitsAvx512Vnni(const NBitsShape& shape, const float* a, int64_t M, int64_t lda, const uint8_t* packed,
                           int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  static_assert(std::size(kMultiply<avx512::Group4>) == avx2::kFusedRows);
  if (1 <= M && M <= avx2::kFusedRows) {
    const auto multiply = (shape.bits == 4 ? kMultiply<avx512::Group4> : kMultiply<avx512::Group8>)[M - 1];
    multiply(shape, a, lda, packed, strip_begin, strip_end, y, ldy);
  } else {
    avx2::TiledMatMul(shape, a, M, lda, packed, strip_begin, strip_end, y, ldy);
  }
}

}  // namespace ryzen_npu_gemma::kernels
