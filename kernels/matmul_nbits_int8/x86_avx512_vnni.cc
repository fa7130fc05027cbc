// A tile of y, 1..6 rows x 16 or 32 columns, keeps its sums in registers over the whole depth, so one engine serves
// decode and prefill. With two strips an activation that is loaded meets two weights.
//
// A group takes 8 vpdpbusd and 3 fp32 multiply-adds (two scales, the weight at q = 8) of the same two units of a Zen 5
// core: 8 / 11 of the peak of vpdpbusd is the most. Unpacking the nibbles once for all rows, tiles
// of 12 x 16 and prefetching y gain nothing.
#include "kernels/matmul_nbits/x86_avx512_vnni.h"

#include <algorithm>

#include "kernels/matmul_nbits/x86_prefetch_stream.h"
#include "kernels/matmul_nbits_int8/row_tiles.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int64_t kTileRows = 6;
constexpr int64_t kTileStrips = 2;
constexpr int64_t kStreamRows = 4;  // up to here weights come at memory's speed, and two streams come at half of it
constexpr int64_t kBlockBytes = 256 << 10;  // of activations, a quarter of L2

using avx512::BroadcastCodes;

// Adds the products of a group: the first or second (half) of a pair.  a: of the pair, [kRows, groups]
template <typename Strip, int kRows, int kStrips>
[[gnu::always_inline]] inline void AddGroup(const QuantizedGroup* a, int64_t groups, const Strip* strip, int64_t pair,
                                            int half, __m512 (&total)[kRows][kStrips]) {
  __m512i sum[kRows][kStrips];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    const __m512i start = Strip::Group::Start(_mm512_set1_epi32(a[m * groups + half].zero));
#pragma GCC unroll 2
    for (int s = 0; s < kStrips; ++s) sum[m][s] = start;
  }
#pragma GCC unroll 4
  for (int chunk = 0; chunk < 4; ++chunk) {
    avx512::Columns8 w8[kStrips];
#pragma GCC unroll 2
    for (int s = 0; s < kStrips; ++s) w8[s] = strip[s].group(pair, half).Load(chunk);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const __m512i code = BroadcastCodes(a[m * groups + half].code + chunk * 8);
#pragma GCC unroll 2
      for (int s = 0; s < kStrips; ++s) sum[m][s] = _mm512_dpbusd_epi32(sum[m][s], w8[s].even, code);
    }
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const __m512i code = BroadcastCodes(a[m * groups + half].code + chunk * 8 + 4);
#pragma GCC unroll 2
      for (int s = 0; s < kStrips; ++s) sum[m][s] = _mm512_dpbusd_epi32(sum[m][s], w8[s].odd, code);
    }
  }
#pragma GCC unroll 2
  for (int s = 0; s < kStrips; ++s) {
    const auto w = strip[s].group(pair, half);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const QuantizedGroup& x = a[m * groups + half];
      // Whole numbers below 2^24: nothing is rounded before the scale.
      const __m512 zero = _mm512_cvtepi32_ps(_mm512_set1_epi32(x.zero));
      const __m512 value = w.Dequantise(_mm512_cvtepi32_ps(sum[m][s]), zero);
      total[m][s] = _mm512_fmadd_ps(_mm512_set1_ps(x.scale), value, total[m][s]);
    }
  }
}

// y = a w for kRows rows and kStrips strips, `strip_bytes` apart.  a [kRows, groups];  y: of the last strip, `columns`
// of 16 columns exist
template <typename Strip, int kRows, int kStrips>
void Tile(const QuantizedGroup* a, int64_t groups, const uint8_t* packed, int64_t strip_bytes, int64_t columns,
          float* y, int64_t ldy) {
  static_assert(kStrips <= 2);
  const Strip strip[2] = {Strip(packed), Strip(packed + (kStrips - 1) * strip_bytes)};
  __m512 total[kRows][kStrips];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int s = 0; s < kStrips; ++s) total[m][s] = _mm512_setzero_ps();
  }
  // Pairs, so that each load goes on by one stride, which the processor's prefetcher follows.
  for (int64_t pair = 0; pair < groups / 2; ++pair, a += 2) {
    if constexpr (kStrips == 1) PrefetchStream<Strip::kPairBytes>(packed + pair * Strip::kPairBytes);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) AddGroup(a, groups, strip, pair, half, total);
  }
  if (groups % 2 != 0) AddGroup(a, groups, strip, groups / 2, 0, total);
  const auto exist = static_cast<__mmask16>((1u << columns) - 1);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int s = 0; s < kStrips; ++s) {
      const auto mask = s + 1 < kStrips ? static_cast<__mmask16>(0xffff) : exist;
      _mm512_mask_storeu_ps(y + m * ldy + s * kStripRows, mask, total[m][s]);
    }
  }
}

template <typename Strip, int kStrips>
constexpr decltype(&Tile<Strip, 1, kStrips>) kTiles[] = {Tile<Strip, 1, kStrips>, Tile<Strip, 2, kStrips>,
                                                         Tile<Strip, 3, kStrips>, Tile<Strip, 4, kStrips>,
                                                         Tile<Strip, 5, kStrips>, Tile<Strip, 6, kStrips>};

template <typename Strip>
void Multiply(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed, int64_t strip_begin,
              int64_t strip_end, float* y, int64_t ldy) {
  static_assert(kTileRows == 6);
  const int64_t groups = shape.groups();
  ForEachTile(shape, M, strip_begin, strip_end, M > kStreamRows ? kTileStrips : 1, kTileRows, kBlockBytes,
              [&](int64_t strip, int64_t strips, int64_t m, int64_t rows) {
                const int64_t n = strip * kStripRows;
                const int64_t columns = std::min(kStripRows, shape.N - n - (strips - 1) * kStripRows);
                const auto tile = (strips == 2 ? kTiles<Strip, 2> : kTiles<Strip, 1>)[rows - 1];
                tile(a + m * groups, groups, packed + strip * shape.strip_bytes(), shape.strip_bytes(), columns,
                     y + m * ldy + n, ldy);
              });
}

}  // namespace

void MatMulNBitsInt8Avx512Vnni(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed,
                               int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  (shape.bits == 4 ? Multiply<avx512::RoundedStrip4> : Multiply<avx512::Strip8>)(shape, a, M, packed, strip_begin,
                                                                                 strip_end, y, ldy);
}

}  // namespace ryzen_npu_gemma::kernels
