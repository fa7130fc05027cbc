// A strip's 16 rows are the 16 lanes of a register: vpdpbusd adds four columns to each. A tile of y, 1..8 rows x 16
// columns, keeps its sums in registers over the whole depth, so one engine serves decode, which streams the weights,
// and prefill, where a strip stays in L1 for the tiles of a block of rows, whose activations stay in L2.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/matmul_nbits/equal_parts.h"
#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int64_t kTileRows = 8;
constexpr int64_t kBlockBytes = 256 << 10;  // of activations, a quarter of L2

__m512 LoadBfloat16x16(const uint8_t* p) {
  const __m256i h = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

// 16 rows x 8 columns of weights, unsigned bytes
struct Columns8 {
  __m512i even, odd;
};

struct Group4 {
  static constexpr int64_t kBytes = kStripGroupBytes4;

  const uint8_t* words;
  __m512 scale, min;

  explicit Group4(const uint8_t* group)
      : words(group + 64), scale(LoadBfloat16x16(group)), min(LoadBfloat16x16(group + 32)) {}

  Columns8 Load(int chunk) const {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i w = _mm512_load_si512(words + chunk * 64);
    return {_mm512_and_si512(w, nibble), _mm512_and_si512(_mm512_srli_epi32(w, 4), nibble)};
  }
  __m512 Dequantise(__m512i sum, __m512 code_sum) const {
    return _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), _mm512_mul_ps(min, code_sum));
  }
};

struct Group8 {
  static constexpr int64_t kBytes = kStripGroupBytes8;

  const uint8_t* words;
  __m512 scale;

  explicit Group8(const uint8_t* group) : words(group + 32), scale(LoadBfloat16x16(group)) {}

  // code + 128, which is the code with its sign bit turned over
  Columns8 Load(int chunk) const {
    const __m512i sign = _mm512_set1_epi8(-128);
    const __m512i first = _mm512_xor_si512(_mm512_loadu_si512(words + chunk * 128), sign);
    const __m512i second = _mm512_xor_si512(_mm512_loadu_si512(words + chunk * 128 + 64), sign);
    const __m512i even_low =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    const __m512i even_high =
        _mm512_broadcast_i32x4(_mm_setr_epi8(1, 3, 0, 2, 5, 7, 4, 6, 9, 11, 8, 10, 13, 15, 12, 14));
    const __m512i low = _mm512_shuffle_epi8(first, even_low);     // columns 0 2 1 3
    const __m512i high = _mm512_shuffle_epi8(second, even_high);  // columns 5 7 4 6
    constexpr __mmask32 kHighHalves = 0xaaaaaaaa;
    return {_mm512_mask_blend_epi16(kHighHalves, low, high),
            _mm512_mask_blend_epi16(kHighHalves, _mm512_rol_epi32(low, 16), _mm512_rol_epi32(high, 16))};
  }
  // Takes the 128 back; all whole numbers below 2^24, so nothing is rounded before the scale.
  __m512 Dequantise(__m512i sum, __m512 code_sum) const {
    return _mm512_mul_ps(scale, _mm512_fnmadd_ps(_mm512_set1_ps(128.0f), code_sum, _mm512_cvtepi32_ps(sum)));
  }
};

__m512i BroadcastCodes(const int8_t* code) {
  int32_t four;
  std::memcpy(&four, code, 4);
  return _mm512_set1_epi32(four);
}

// y = a w for kRows rows.  a [kRows, groups];  y: `columns` of 16 columns exist
template <typename Group, int kRows>
void Tile(const QuantizedGroup* a, int64_t groups, const uint8_t* strip, int64_t columns, float* y, int64_t ldy) {
  __m512 total[kRows];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) total[m] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; ++g, ++a) {
    const Group w(strip + g * Group::kBytes);
    __m512i sum[kRows];
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) sum[m] = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int chunk = 0; chunk < 4; ++chunk) {
      const Columns8 w8 = w.Load(chunk);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        sum[m] = _mm512_dpbusd_epi32(sum[m], w8.even, BroadcastCodes(a[m * groups].code + chunk * 8));
      }
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        sum[m] = _mm512_dpbusd_epi32(sum[m], w8.odd, BroadcastCodes(a[m * groups].code + chunk * 8 + 4));
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const QuantizedGroup& x = a[m * groups];
      total[m] = _mm512_fmadd_ps(_mm512_set1_ps(x.scale), w.Dequantise(sum[m], _mm512_set1_ps(x.code_sum)), total[m]);
    }
  }
  const auto exist = static_cast<__mmask16>((1u << columns) - 1);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) _mm512_mask_storeu_ps(y + m * ldy, exist, total[m]);
}

template <typename Group>
void Multiply(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed, int64_t strip_begin,
              int64_t strip_end, float* y, int64_t ldy) {
  static_assert(kTileRows == 8);
  constexpr decltype(&Tile<Group, 1>) kTiles[] = {Tile<Group, 1>, Tile<Group, 2>, Tile<Group, 3>, Tile<Group, 4>,
                                                  Tile<Group, 5>, Tile<Group, 6>, Tile<Group, 7>, Tile<Group, 8>};
  const int64_t groups = shape.groups();
  const int64_t row_bytes = groups * static_cast<int64_t>(sizeof(QuantizedGroup));
  const int64_t most_rows = std::max(kTileRows, kBlockBytes / row_bytes);
  for (int64_t m0 = 0, block_rows; m0 < M; m0 += block_rows) {
    block_rows = NextPart(M - m0, most_rows);
    for (int64_t strip = strip_begin; strip < strip_end; ++strip) {
      const int64_t n = strip * kStripRows;
      const int64_t columns = std::min(kStripRows, shape.N - n);
      for (int64_t m = m0, rows; m < m0 + block_rows; m += rows) {
        rows = NextPart(m0 + block_rows - m, kTileRows);
        kTiles[rows - 1](a + m * groups, groups, packed + strip * shape.strip_bytes(), columns, y + m * ldy + n, ldy);
      }
    }
  }
}

}  // namespace

void MatMulNBitsInt8Avx512Vnni(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed,
                               int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  (shape.bits == 4 ? Multiply<Group4> : Multiply<Group8>)(shape, a, M, packed, strip_begin, strip_end, y, ldy);
}

}  // namespace ryzen_npu_gemma::kernels
