// A tile of y, 1..8 rows x 16 columns, keeps its sums in registers over the whole depth, so one engine serves decode
// and prefill.
#include "kernels/matmul_nbits/x86_avx512_vnni.h"

#include <algorithm>

#include "kernels/matmul_nbits_int8/row_tiles.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int64_t kTileRows = 8;
constexpr int64_t kBlockBytes = 256 << 10;  // of activations, a quarter of L2

using avx512::BroadcastCodes;

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
      const avx512::Columns8 w8 = w.Load(chunk);
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
      // Whole numbers below 2^24: nothing is rounded before the scale.
      const __m512 value = w.Dequantise(_mm512_cvtepi32_ps(sum[m]), _mm512_set1_ps(x.code_sum));
      total[m] = _mm512_fmadd_ps(_mm512_set1_ps(x.scale), value, total[m]);
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
  ForEachTile(shape, M, strip_begin, strip_end, kTileRows, kBlockBytes, [&](int64_t strip, int64_t m, int64_t rows) {
    const int64_t n = strip * kStripRows;
    const int64_t columns = std::min(kStripRows, shape.N - n);
    kTiles[rows - 1](a + m * groups, groups, packed + strip * shape.strip_bytes(), columns, y + m * ldy + n, ldy);
  });
}

}  // namespace

void MatMulNBitsInt8Avx512Vnni(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed,
                               int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  (shape.bits == 4 ? Multiply<avx512::Group4> : Multiply<avx512::Group8>)(shape, a, M, packed, strip_begin, strip_end,
                                                                          y, ldy);
}

}  // namespace ryzen_npu_gemma::kernels
