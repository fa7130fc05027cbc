// The fixed point of RotatedStrip's codes, which the scalar and the vector code share.
//
//   bound   sum over the four groups of the largest |w| that its scale and centre allow
//   unit    16 bound / kLargestSum: sums of 64 weights are whole numbers of units, and none is beyond kLargestSum
#pragma once

namespace ryzen_npu_gemma::kernels {

inline constexpr float kLargestSum = 30000;
inline constexpr float kUnitsOfBound = kLargestSum / 16;         // a weight w is w / bound * kUnitsOfBound units
inline constexpr int kCodeShift = 8;                             // a 4-bit code q becomes q << 8: sums of 16 just fit
inline constexpr float kMultiplierOne = 1 << (15 - kCodeShift);  // of the product (a * b + 2^14) >> 15
inline constexpr int kMeanOf8 = 60;                              // 8 times the mean of the codes, 7.5
inline constexpr int kMeanOf16 = 2 * kMeanOf8 << kCodeShift;
inline constexpr float kScaleOfBound = 32768 / (64 * kUnitsOfBound);

}  // namespace ryzen_npu_gemma::kernels
