// A panel of two strips is rotated once and met by every row of a block: tiles of 1..6 rows x 32 columns of y.
//
// Of the two units of a Zen 5 core that multiply, a span takes 32 vpdpbusd and two fp32 operations: 32 / 34 of the peak
// of vpdpbusd is the most.
#include <algorithm>

#include "kernels/matmul_nbits/equal_parts.h"
#include "kernels/matmul_rotated_int8/matmul_rotated_int8.h"
#include "kernels/matmul_rotated_int8/x86_avx512_rotate_strip.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr int64_t kTileRows = 6;
constexpr int64_t kTileStrips = 2;
constexpr int64_t kBlockRows = 512;  // 68 KB of activations a span: those of K > 1152 leave L2 and come from L3
constexpr int64_t kPanelSpans = 9;   // 39 KB of weights, in the 48 KB L1 of Zen 5
constexpr int kUnrolledWords = 8;    // in one, GCC copies every sum in every round

using Panel = RotatedStrip[kPanelSpans][kTileStrips];

using avx512::BroadcastCodes;
using avx512::Columns;

// Spans [p, p + spans) of `strips` strips.
void RotatePanel(const uint8_t* packed, int64_t strip_bytes, int64_t strips, int64_t p, int64_t spans, Panel& panel) {
  avx512::SpanRotation rotations[2];
  RotatedStrip* previous = nullptr;
  int current = 0;
  for (int64_t s = 0; s < strips; ++s) {
    const avx512::RoundedStrip4 strip(packed + s * strip_bytes);
    for (int64_t i = 0; i < spans; ++i, current ^= 1) {
      rotations[current].Rotate(strip, p + i);
      if (previous) rotations[current ^ 1].Round(*previous);
      previous = &panel[i][s];
    }
  }
  rotations[current ^ 1].Round(*previous);
}

// y (+)= a w for kRows rows.
//   a [spans, kRows], spans `lda` rows apart;  y: the columns of `exist` exist
template <int kRows>
void Tile(const RotatedSpan* a, int64_t lda, const Panel& w, int64_t spans, bool add,
          const __mmask16 (&exist)[kTileStrips], float* y, int64_t ldy) {
  __m512 total[kRows][kTileStrips];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int s = 0; s < kTileStrips; ++s) {
      total[m][s] = add ? _mm512_maskz_loadu_ps(exist[s], y + m * ldy + s * kStripRows) : _mm512_setzero_ps();
    }
  }
  for (int64_t p = 0; p < spans; ++p, a += lda) {
    const RotatedStrip(&strip)[kTileStrips] = w[p];
    __m512i sum[kRows][kTileStrips];
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      sum[m][0] = _mm512_load_si512(strip[0].zero);
      sum[m][1] = _mm512_load_si512(strip[1].zero);
    }
    for (int first = 0; first < kSpanColumns / 4; first += kUnrolledWords) {
#pragma GCC unroll 8
      for (int i = 0; i < kUnrolledWords; ++i) {
        const int word = first + i;
        const __m512i w0 = _mm512_load_si512(strip[0].code[word]);
        const __m512i w1 = _mm512_load_si512(strip[1].code[word]);
#pragma GCC unroll 8
        for (int m = 0; m < kRows; ++m) {
          const __m512i code = BroadcastCodes(a[m].code + word * 4);
          sum[m][0] = _mm512_dpbusd_epi32(sum[m][0], code, w0);
          sum[m][1] = _mm512_dpbusd_epi32(sum[m][1], code, w1);
        }
      }
    }
#pragma GCC unroll 2
    for (int s = 0; s < kTileStrips; ++s) {
      const __m512 scale = _mm512_load_ps(strip[s].scale);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        const __m512 value = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum[m][s]));
        total[m][s] = _mm512_fmadd_ps(_mm512_set1_ps(a[m].scale), value, total[m][s]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int s = 0; s < kTileStrips; ++s) _mm512_mask_storeu_ps(y + m * ldy + s * kStripRows, exist[s], total[m][s]);
  }
}

using TileFn = void (*)(const RotatedSpan*, int64_t, const Panel&, int64_t, bool, const __mmask16 (&)[kTileStrips],
                        float*, int64_t);
constexpr TileFn kTiles[kTileRows + 1] = {nullptr, Tile<1>, Tile<2>, Tile<3>, Tile<4>, Tile<5>, Tile<6>};

// Fetches the next panel's weights, some lines a tile of this one: memory works while the core does.
class PanelFetch {
 public:
  // The next panel begins with span p of `strip`; it may lie behind the last strip, where fetching is of no use and no
  // harm.
  PanelFetch(const uint8_t* packed, const NBitsShape& shape, int64_t strip, int64_t p, int64_t spans, int64_t tiles)
      : line_(packed + strip * shape.strip_bytes() + kStripHeadBytes + p * kSpanBytes),
        strip_bytes_(shape.strip_bytes()),
        lines_a_tile_((spans * kSpanBytes / 64 + tiles - 1) / tiles) {}

  void FetchSome() {
    for (int64_t i = 0; i < lines_a_tile_; ++i, line_ += 64) {
      __builtin_prefetch(line_, 0, 3);
      __builtin_prefetch(line_ + strip_bytes_, 0, 3);
    }
  }

 private:
  static constexpr int64_t kSpanBytes = kSpanGroups / 2 * kPairBytes;

  const uint8_t* line_;
  const int64_t strip_bytes_, lines_a_tile_;
};

}  // namespace

void MatMulRotatedInt8Avx512Vnni(const NBitsShape& shape, const RotatedSpan* a, int64_t M, const uint8_t* packed,
                                 int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  Panel panel = {};
  const int64_t all = shape.K / kSpanColumns;
  for (int64_t m0 = 0, block_rows; m0 < M; m0 += block_rows) {
    block_rows = NextPart(M - m0, kBlockRows);
    for (int64_t strip = strip_begin; strip < strip_end; strip += kTileStrips) {
      const int64_t strips = std::min(kTileStrips, strip_end - strip);
      const int64_t n = strip * kStripRows;
      const __mmask16 exist[kTileStrips] = {Columns(shape.N - n),
                                            strips == 2 ? Columns(shape.N - n - kStripRows) : __mmask16{0}};
      for (int64_t p = 0, spans; p < all; p += spans) {
        spans = NextPart(all - p, kPanelSpans);
        RotatePanel(packed + strip * shape.strip_bytes(), shape.strip_bytes(), strips, p, spans, panel);
        const bool more = p + spans < all;
        PanelFetch next(packed, shape, more ? strip : strip + kTileStrips, more ? p + spans : 0, spans,
                        (block_rows + kTileRows - 1) / kTileRows);
        for (int64_t m = m0, rows; m < m0 + block_rows; m += rows) {
          next.FetchSome();
          rows = NextPart(m0 + block_rows - m, kTileRows);
          kTiles[rows](a + p * M + m, M, panel, spans, p > 0, exist, y + m * ldy + n, ldy);
        }
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
