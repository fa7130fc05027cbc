// What every RMS normalisation of the NPU shares: the inverse root mean square of a row, and the gain that it makes
// with the weights.
//
// Weights arrive as w, not as the 1 + w that the host kernels take: Gemma3's w are bf16 numbers, 1 + w is not one
// (270M: rounding 1 + w to bf16 costs more than half of what all activations in bf16 do), and 1 + w is one accumulation
// here.
#pragma once

#include "kernels/aie2p_limbs.h"

namespace aie2p {

constexpr unsigned kLanes = 64;
constexpr float kEpsilon = 1e-6f;  // rms_norm_eps of every Gemma3

inline Fp32<kLanes> AddSquares(const Fp32<kLanes>& acc, const Limbs<kLanes>& x) {
  return aie::mac(aie::mac(aie::mac(acc, x.high, x.low), x.high, x.low), x.high, x.high);
}
inline Fp32<kLanes> AddSquares(const Fp32<kLanes>& acc, const Bf16<kLanes>& x) { return aie::mac(acc, x, x); }

// 1 / sqrt(mean(x^2) + eps) of n values, n a multiple of 64.
template <class T>
inline float InverseRms(const T* __restrict x, int32_t n) {
  Fp32<kLanes> squares = aie::zeros<accfloat, kLanes>();
  for (int32_t i = 0; i < n; i += kLanes) squares = AddSquares(squares, LoadOperand<kLanes>(x + i));
  const float sum = aie::reduce_add(squares.template to_vector<float>());
  return aie::invsqrt(sum * aie::inv(static_cast<float>(n)) + kEpsilon);
}

// scale * (1 + w) for 64 weights.
class Gain {
 public:
  explicit Gain(float scale) : scale_(aie::broadcast<float, kLanes>(scale)), limbs_(SplitScalar<kLanes>(scale)) {}
  Limbs<kLanes> operator()(const bfloat16* __restrict weight) const {
    return Split(MultiplyAdd(scale_, limbs_, aie::load_v<kLanes>(weight)));
  }

 private:
  Fp32<kLanes> scale_;
  Limbs<kLanes> limbs_;
};

}  // namespace aie2p
