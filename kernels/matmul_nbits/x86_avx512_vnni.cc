// FusedDQP in integers: a group of 32 activations as fixed point, cut into four bytes ("limbs") for vpdpbusd. 32 of
// those replace 64 each of and, convert and FMA, and their sums are exact.
//
//   x = 2^e * (2^24 limb3 + 2^16 limb2 + 2^8 limb1 + limb0),  limbs -128..127
//
// The largest |x| of the group takes 30 bits, so a column is exact, or wrong by at most 2^-30 of the largest: a
// hundredth of what fp32 sums of the group round by. (Three limbs would be wrong by 2^-23 of it, which breaks the
// accuracy rule where an outlier meets a weight near zero.) A group with a NaN or an infinity has scale NaN; one below
// 2^-90 is zero.
#include "kernels/matmul_nbits/x86_avx512_vnni.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>

#include "kernels/matmul_nbits/x86_avx512.h"
#include "kernels/matmul_nbits/x86_prefetch_stream.h"

namespace ryzen_npu_gemma::kernels {

namespace {

using avx512::BroadcastCodes;

constexpr int kLimbs = 4;
constexpr float kSmallestMagnitude = 0x1p-90f;  // so that scale and inverse are normal numbers

// Columns that are prepared at a time; a longer row takes several passes over the strips, which read worse.
constexpr int64_t kColumns = 10240;

struct LimbGroup {
  int8_t limb[kLimbs][32];  // in the order of Columns8
  int32_t start[kLimbs];    // of the integer sums: - kZero * the sum of the limbs
  float scale;
  float sum;  // of x / scale
};

// Eight lanes of each of four registers, added up.
inline __m128i Sums(const __m256i (&v)[4]) {
  const __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
  return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

inline void PrepareGroup(const float* x, int zero, LimbGroup& group) {
  const __m512 x16[2] = {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)};
  // As integers the bits of |x| grow with |x|, and those of infinity and NaN are the largest.
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m512i largest = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(x16[0]), magnitude),
                                           _mm512_and_si512(_mm512_castps_si512(x16[1]), magnitude));
  const int32_t bits = _mm512_reduce_max_epi32(largest);
  const auto max = std::bit_cast<float>(bits);
  if (!(max >= kSmallestMagnitude && max <= std::numeric_limits<float>::max())) {
    group = {};
    if (!(max < kSmallestMagnitude)) group.scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const int32_t exponent = bits >> 23;                        // biased by 127
  group.scale = std::bit_cast<float>((exponent - 29) << 23);  // x / scale is below 2^30
  const auto inverse = std::bit_cast<float>((283 - exponent) << 23);
  __m512i rest[2];
  for (int i = 0; i < 2; ++i) rest[i] = _mm512_cvtps_epi32(_mm512_mul_ps(x16[i], _mm512_set1_ps(inverse)));
  const __m256i even_first =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
  __m256i sums[kLimbs];
  for (int l = 0; l < kLimbs; ++l) {
    const __m256i bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(rest[1]), _mm512_cvtepi32_epi8(rest[0]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(group.limb[l]), _mm256_shuffle_epi8(bytes, even_first));
    sums[l] = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
    // The byte just taken is signed: rounding to nearest leaves the rest.
    for (int i = 0; i < 2; ++i) rest[i] = _mm512_srai_epi32(_mm512_add_epi32(rest[i], _mm512_set1_epi32(128)), 8);
  }
  const __m128i sum = Sums(sums);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(group.start), _mm_mullo_epi32(sum, _mm_set1_epi32(-zero)));
  group.sum =
      static_cast<float>(int64_t{_mm_extract_epi32(sum, 3)} * (1 << 24) + _mm_extract_epi32(sum, 2) * (1 << 16) +
                         _mm_extract_epi32(sum, 1) * (1 << 8) + _mm_extract_epi32(sum, 0));
}

void Prepare(const float* x, int64_t groups, int zero, LimbGroup* limbs) {
  for (int64_t g = 0; g < groups; ++g) PrepareGroup(x + g * 32, zero, limbs[g]);
}

// A strip's share of y for kRows rows.  a [kRows, kColumns/32]
template <typename Group, int kRows>
void Strip(const LimbGroup (*a)[kColumns / 32], int64_t groups, const uint8_t* strip, __m512 (&total)[kRows]) {
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) total[m] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; ++g) {
    const Group w(strip + g * Group::kBytes);
    PrefetchStream<Group::kBytes>(strip + g * Group::kBytes);
    __m512i sum[kRows][kLimbs];
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int l = 0; l < kLimbs; ++l) sum[m][l] = _mm512_set1_epi32(a[m][g].start[l]);
    }
#pragma GCC unroll 4
    for (int chunk = 0; chunk < 4; ++chunk) {
      const avx512::Columns8 w8 = w.Load(chunk);
#pragma GCC unroll 4
      for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
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
      const __m512i high = _mm512_add_epi32(_mm512_slli_epi32(sum[m][3], 8), sum[m][2]);
      const __m512i low = _mm512_add_epi32(_mm512_slli_epi32(sum[m][1], 8), sum[m][0]);
      const __m512 whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0f), _mm512_cvtepi32_ps(low));
      const __m512 value = w.DequantiseCentred(whole, _mm512_set1_ps(x.sum));
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
    for (int m = 0; m < kRows; ++m) Prepare(a + m * lda + k, groups, Group::kZero, limbs[m]);
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
  constexpr auto kFusedRows = static_cast<int64_t>(std::size(kMultiply<avx512::Group4>));
  if (1 <= M && M <= kFusedRows) {
    const auto multiply = (shape.bits == 4 ? kMultiply<avx512::Group4> : kMultiply<avx512::Group8>)[M - 1];
    multiply(shape, a, lda, packed, strip_begin, strip_end, y, ldy);
  } else {
    avx512::TiledMatMul(shape, a, M, lda, packed, strip_begin, strip_end, y, ldy);
  }
}

}  // namespace ryzen_npu_gemma::kernels
