// Tiles of 1..4 rows x 16 columns of y; a register holds 8 rows of a strip (one half) x 4 columns of bytes.
//
// 4 bits: vpmaddubsw gives sums of two products; the 16 of a group that one 16-bit lane takes stay below 2^15
//         (15 * 127 * 2 * 8 = 30480), so one vpmaddwd a group widens them.
// 8 bits: two products fill 16 bits (128 * 127 * 2 = 32512), so each is widened at once.
//
// A tile keeps its sums in registers over the whole depth, so one engine serves decode and prefill.
#include <algorithm>
#include <cstring>

#include "kernels/matmul_nbits/x86_prefetch_stream.h"
#include "kernels/matmul_nbits_int8/row_tiles.h"
#include "kernels/x86_avx2_math.h"

namespace ryzen_npu_gemma::kernels {

namespace {

using avx2::LoadBfloat16x8;

constexpr int64_t kTileRows = 4;
constexpr int64_t kBlockBytes = 128 << 10;  // of activations, half of a small L2

__m256i LoadWords(const uint8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

struct RoundedStrip4 {
  static constexpr int64_t kGroupBytes = kGroupWordBytes4 + kPairParameterBytes / 2;

  const uint8_t* strip;
  alignas(32) float scale_unit[kStripRows];
  alignas(32) float centre_unit[kStripRows];

  struct Group {
    const RoundedStrip4& units;
    const uint8_t* codes;
    const uint8_t* words;

    // 8 rows x 4 columns: the even (parity 0) or odd ones of 8
    __m256i Load(int half, int chunk, int parity) const {
      const __m256i w = LoadWords(words + chunk * 64 + half * 32);
      return _mm256_and_si256(parity == 0 ? w : _mm256_srli_epi32(w, 4), _mm256_set1_epi8(15));
    }
    static __m256i Add(__m256i sum16, __m256i q, __m256i code) {
      return _mm256_add_epi16(sum16, _mm256_maddubs_epi16(q, code));
    }
    // zero: QuantizedGroup's
    __m256 Dequantise(int half, __m256i sum16, __m256i zero) const {
      const __m256 sum = _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_madd_epi16(sum16, _mm256_set1_epi16(1)), zero));
      const __m256i code = _mm256_cvtepi16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(codes + half * 16)));
      const __m256i scale_code = _mm256_and_si256(code, _mm256_set1_epi32((1 << kScaleBits) - 1));
      const __m256i centre_code = _mm256_srai_epi32(code, kScaleBits);
      const __m256 scale = _mm256_mul_ps(_mm256_load_ps(units.scale_unit + half * 8), _mm256_cvtepi32_ps(scale_code));
      const __m256 centre =
          _mm256_mul_ps(_mm256_load_ps(units.centre_unit + half * 8), _mm256_cvtepi32_ps(centre_code));
      const __m256 weight_at_zero = _mm256_fmadd_ps(scale, _mm256_set1_ps(kCodeZero - kCentreCode), centre);
      const __m256 code_sum_term =
          _mm256_mul_ps(_mm256_mul_ps(weight_at_zero, _mm256_set1_ps(-1.0f / kCodeZero)), _mm256_cvtepi32_ps(zero));
      return _mm256_fmadd_ps(scale, sum, code_sum_term);
    }
  };

  explicit RoundedStrip4(const uint8_t* head) : strip(head) {
    for (int half = 0; half < 2; ++half) {
      _mm256_store_ps(scale_unit + half * 8, LoadBfloat16x8(head + half * 16));
      _mm256_store_ps(centre_unit + half * 8, LoadBfloat16x8(head + kStripHeadBytes / 2 + half * 16));
    }
  }
  Group group(int64_t g) const {
    const uint8_t* pair = strip + kStripHeadBytes + (g >> 1) * kPairBytes;
    return {*this, pair + (g & 1) * 2 * kStripRows, pair + kPairParameterBytes + (g & 1) * kGroupWordBytes4};
  }
};

struct Strip8 {
  static constexpr int64_t kGroupBytes = kStripGroupBytes8;

  const uint8_t* strip;

  struct Group {
    const uint8_t* words;

    __m256i Load(int half, int chunk, int parity) const {
      const __m256i even_first =
          _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
      const __m256i odd_first =
          _mm256_broadcastsi128_si256(_mm_setr_epi8(1, 3, 0, 2, 5, 7, 4, 6, 9, 11, 8, 10, 13, 15, 12, 14));
      const uint8_t* half_words = words + chunk * 128 + half * 32;
      const __m256i low = _mm256_shuffle_epi8(LoadWords(half_words), parity == 0 ? even_first : odd_first);
      const __m256i high = _mm256_shuffle_epi8(LoadWords(half_words + 64), parity == 0 ? odd_first : even_first);
      return _mm256_blend_epi16(low, high, 0xaa);  // the upper half of each word from columns 4..7
    }
    // vpmaddubsw wants one operand unsigned: the sign of q goes to the code, and |-128| is 128 there.
    static __m256i Add(__m256i sum, __m256i q, __m256i code) {
      const __m256i sum16 = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(code, q));
      return _mm256_add_epi32(sum, _mm256_madd_epi16(sum16, _mm256_set1_epi16(1)));
    }
    __m256 Dequantise(int half, __m256i sum, __m256i) const {
      return _mm256_mul_ps(LoadBfloat16x8(words - 32 + half * 16), _mm256_cvtepi32_ps(sum));
    }
  };

  explicit Strip8(const uint8_t* groups) : strip(groups) {}
  Group group(int64_t g) const { return {strip + g * kStripGroupBytes8 + 32}; }
};

__m256i BroadcastCodes(const int8_t* code) {
  int32_t four;
  std::memcpy(&four, code, 4);
  return _mm256_set1_epi32(four);
}

void Store(__m256 low, __m256 high, int64_t columns, float* y) {
  if (columns == kStripRows) {
    _mm256_storeu_ps(y, low);
    _mm256_storeu_ps(y + 8, high);
  } else {
    alignas(32) float strip[kStripRows];
    _mm256_store_ps(strip, low);
    _mm256_store_ps(strip + 8, high);
    std::copy_n(strip, columns, y);
  }
}

// y = a w for kRows rows.  a [kRows, groups];  y: `columns` of 16 columns exist
template <typename Strip, bool kStream, int kRows>
void Tile(const QuantizedGroup* a, int64_t groups, const uint8_t* packed, int64_t columns, float* y, int64_t ldy) {
  const Strip strip(packed);
  __m256 total[2][kRows];
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) total[0][m] = total[1][m] = _mm256_setzero_ps();
  for (int64_t g = 0; g < groups; ++g, ++a) {
    const typename Strip::Group w = strip.group(g);
    if constexpr (kStream) PrefetchStream<Strip::kGroupBytes>(w.words);
    __m256i sum[2][kRows];
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) sum[0][m] = sum[1][m] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int chunk = 0; chunk < 4; ++chunk) {
#pragma GCC unroll 2
      for (int parity = 0; parity < 2; ++parity) {
        const __m256i w_low = w.Load(0, chunk, parity);
        const __m256i w_high = w.Load(1, chunk, parity);
#pragma GCC unroll 4
        for (int m = 0; m < kRows; ++m) {
          const __m256i code = BroadcastCodes(a[m * groups].code + chunk * 8 + parity * 4);
          sum[0][m] = Strip::Group::Add(sum[0][m], w_low, code);
          sum[1][m] = Strip::Group::Add(sum[1][m], w_high, code);
          // Says that the sums are wanted here: GCC would put the additions off, and spill what is to be added.
          asm("" : "+x"(sum[0][m]), "+x"(sum[1][m]));
        }
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 4
      for (int m = 0; m < kRows; ++m) {
        const QuantizedGroup& x = a[m * groups];
        const __m256 value = w.Dequantise(half, sum[half][m], _mm256_set1_epi32(x.zero));
        total[half][m] = _mm256_fmadd_ps(_mm256_set1_ps(x.scale), value, total[half][m]);
      }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) Store(total[0][m], total[1][m], columns, y + m * ldy);
}

// kStream: the weights come at memory's speed
template <typename Strip, bool kStream>
void Multiply(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed, int64_t strip_begin,
              int64_t strip_end, float* y, int64_t ldy) {
  static_assert(kTileRows == 4);
  constexpr decltype(&Tile<Strip, kStream, 1>) kTiles[] = {Tile<Strip, kStream, 1>, Tile<Strip, kStream, 2>,
                                                           Tile<Strip, kStream, 3>, Tile<Strip, kStream, 4>};
  const int64_t groups = shape.groups();
  const auto tile = [&](int64_t strip, int64_t, int64_t m, int64_t rows) {
    const int64_t n = strip * kStripRows;
    const int64_t columns = std::min(kStripRows, shape.N - n);
    kTiles[rows - 1](a + m * groups, groups, packed + strip * shape.strip_bytes(), columns, y + m * ldy + n, ldy);
  };
  ForEachTile(shape, M, strip_begin, strip_end, 1, kTileRows, kBlockBytes, tile);
}

}  // namespace

void MatMulNBitsInt8Avx2(const NBitsShape& shape, const QuantizedGroup* a, int64_t M, const uint8_t* packed,
                         int64_t strip_begin, int64_t strip_end, float* y, int64_t ldy) {
  const auto multiply = M > kTileRows ? (shape.bits == 4 ? Multiply<RoundedStrip4, false> : Multiply<Strip8, false>)
                                      : (shape.bits == 4 ? Multiply<RoundedStrip4, true> : Multiply<Strip8, true>);
  multiply(shape, a, M, packed, strip_begin, strip_end, y, ldy);
}

}  // namespace ryzen_npu_gemma::kernels
