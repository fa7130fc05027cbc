// A strip for vpdpbusd: its 16 rows are the 16 lanes of a register, and one instruction adds four columns to each.
// Included only by files that are compiled for AVX-512 F, BW, VL and VNNI.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::kernels::avx512 {

inline __m512 LoadBfloat16x16(const uint8_t* p) {
  const __m256i h = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

// Four codes, bytes of either sign, in every lane.
inline __m512i BroadcastCodes(const void* code) {
  int32_t four;
  std::memcpy(&four, code, 4);
  return _mm512_set1_epi32(four);
}

// Those of the next 16 columns that exist, when `n` more do.
inline __mmask16 Columns(int64_t n) {
  return static_cast<__mmask16>((1u << std::clamp<int64_t>(n, 0, kStripRows)) - 1);
}

// 16 rows x 8 columns of weights as unsigned bytes: columns 0, 2, 4, 6 and 1, 3, 5, 7, the order of CodePosition.
struct Columns8 {
  __m512i even, odd;
};

inline Columns8 LoadNibbles(const uint8_t* chunk) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i w = _mm512_load_si512(chunk);
  return {_mm512_and_si512(w, nibble), _mm512_and_si512(_mm512_srli_epi32(w, 4), nibble)};
}

// A group of a strip. From sums of (byte - kZero) times codes, DequantiseCentred makes sums of weights times codes,
// without the cancellation of a large sum and a large min term.
struct Group4 {
  static constexpr int64_t kBytes = kStripGroupBytes4;
  static constexpr int kZero = 8;

  const uint8_t* words;
  __m512 scale, min;

  explicit Group4(const uint8_t* group)
      : words(group + 64), scale(LoadBfloat16x16(group)), min(LoadBfloat16x16(group + 32)) {}

  Columns8 Load(int chunk) const { return LoadNibbles(words + chunk * 64); }
  __m512 DequantiseCentred(__m512 sum, __m512 code_sum) const {
    const __m512 weight_at_zero = _mm512_fmadd_ps(scale, _mm512_set1_ps(kZero), min);
    return _mm512_fmadd_ps(scale, sum, _mm512_mul_ps(weight_at_zero, code_sum));
  }
};

// A byte is the weight's code + 128, which is the code with its sign bit turned over.
struct Group8 {
  static constexpr int64_t kBytes = kStripGroupBytes8;
  static constexpr int kZero = 128;

  const uint8_t* words;
  __m512 scale;

  explicit Group8(const uint8_t* group) : words(group + 32), scale(LoadBfloat16x16(group)) {}

  Columns8 Load(int chunk) const {
    const __m512i sign = _mm512_set1_epi8(-128);
    const __m512i first = _mm512_xor_si512(_mm512_loadu_si512(words + chunk * 128), sign);
    const __m512i second = _mm512_xor_si512(_mm512_loadu_si512(words + chunk * 128 + 64), sign);
    const __m512i even_first =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    const __m512i odd_first =
        _mm512_broadcast_i32x4(_mm_setr_epi8(1, 3, 0, 2, 5, 7, 4, 6, 9, 11, 8, 10, 13, 15, 12, 14));
    const __m512i low = _mm512_shuffle_epi8(first, even_first);   // columns 0 2 1 3
    const __m512i high = _mm512_shuffle_epi8(second, odd_first);  // columns 5 7 4 6
    constexpr __mmask32 kUpperHalves = 0xaaaaaaaa;
    return {_mm512_mask_blend_epi16(kUpperHalves, low, high),
            _mm512_mask_blend_epi16(kUpperHalves, _mm512_rol_epi32(low, 16), _mm512_rol_epi32(high, 16))};
  }
  static __m512i Start(__m512i zero) { return _mm512_slli_epi32(zero, 4); }  // of kZero, from that of 8
  __m512 Dequantise(__m512 sum, __m512 zero) const { return DequantiseCentred(sum, zero); }
  __m512 DequantiseCentred(__m512 sum, __m512) const { return _mm512_mul_ps(scale, sum); }
};

// A group of 4 bits with rounded parameters.
struct RoundedGroup4 {
  static constexpr int kZero = 8;

  const uint8_t* words;
  __m512 scale, centre;

  Columns8 Load(int chunk) const { return LoadNibbles(words + chunk * 64); }
  // What sums begin with to be of q - kZero, from QuantizedGroup::zero; and sums of weights times codes from those.
  static __m512i Start(__m512i zero) { return zero; }
  __m512 Dequantise(__m512 sum, __m512 zero) const {
    const __m512 weight_at_zero = _mm512_fmadd_ps(scale, _mm512_set1_ps(kZero - kCentreCode), centre);
    return _mm512_fmadd_ps(scale, sum,
                           _mm512_mul_ps(_mm512_mul_ps(weight_at_zero, _mm512_set1_ps(-1.0f / kZero)), zero));
  }
};

// The groups of a strip of accuracy=fast, by pairs.
struct RoundedStrip4 {
  using Group = RoundedGroup4;
  static constexpr int64_t kPairBytes = kernels::kPairBytes;

  const uint8_t* strip;
  __m512 scale_unit, centre_unit;

  explicit RoundedStrip4(const uint8_t* head)
      : strip(head), scale_unit(LoadBfloat16x16(head)), centre_unit(LoadBfloat16x16(head + kStripHeadBytes / 2)) {}

  RoundedGroup4 group(int64_t pair, int half) const {
    const uint8_t* parameters = strip + kStripHeadBytes + pair * kPairBytes;
    const __m512i codes =
        _mm512_cvtepi16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(parameters + half * 2 * kStripRows)));
    const __m512i scale = _mm512_and_si512(codes, _mm512_set1_epi32((1 << kScaleBits) - 1));
    const __m512i centre = _mm512_srai_epi32(codes, kScaleBits);
    return {parameters + kPairParameterBytes + half * kGroupWordBytes4,
            _mm512_mul_ps(scale_unit, _mm512_cvtepi32_ps(scale)),
            _mm512_mul_ps(centre_unit, _mm512_cvtepi32_ps(centre))};
  }
};

struct Strip8 {
  using Group = Group8;
  static constexpr int64_t kPairBytes = 2 * Group8::kBytes;

  const uint8_t* strip;

  explicit Strip8(const uint8_t* groups) : strip(groups) {}
  Group8 group(int64_t pair, int half) const { return Group8(strip + (2 * pair + half) * Group8::kBytes); }
};

}  // namespace ryzen_npu_gemma::kernels::avx512
