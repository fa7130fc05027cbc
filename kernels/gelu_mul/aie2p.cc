// y = gelu_tanh(gate) * up, bf16 out.
//
// gelu_tanh(x) = x / (1 + 2^t),  t = -2 log2(e) sqrt(2/pi) (x + 0.044715 x^3): the core's exp2 instead of its tanh. The
// latter is off by up to 0.038, which would make GELU wrong by 2 % of x (Gemma3-270M: another token comes first at 3.5
// % of the positions instead of 0.5 %, and the KL divergence grows sevenfold). 1 / d comes from aie::inv, good to 7
// bits, and one Newton step in fp32; d = 1 + e is exact there as a pair: d r = r + e r.
//
//   decode   gate_up [2 n] fp32, gate first: the sums of the projections, rounded to bf16 as they are read
//   prefill  gate, up [n] bf16
//   y [n] bf16      n a multiple of 64
#include "kernels/aie2p_limbs.h"

namespace {

constexpr unsigned kLanes = 64;
using Bf16 = aie2p::Bf16<kLanes>;
using Fp32 = aie2p::Fp32<kLanes>;

constexpr float kLinear = -2.30220819f;  // -2 log2(e) sqrt(2/pi)
constexpr float kCubic = -0.102943240f;  // 0.044715 of it
constexpr float kBeyond = 8.0f;          // gelu(x) is x above and 0 below, to 2^-71, and t stays in range

inline Bf16 LoadRounded(const float* x) { return Fp32(aie::load_v<kLanes>(x)).template to_vector<bfloat16>(); }
inline Bf16 LoadRounded(const bfloat16* x) { return aie::load_v<kLanes>(x); }

// 1 / (1 + 2^t). The constants are registers: an object lives as long as the loop.
class Sigmoid {
 public:
  // x is not below -kBeyond.
  Fp32 operator()(const Bf16& x) const {
    const Bf16 near = aie::min(x, highest_);
    const Bf16 square = aie::mul(near, near).template to_vector<bfloat16>();
    const Fp32 t = aie2p::Multiply(aie2p::Split(aie::mac(linear_, square, cubic_)), near);
    const Bf16 e = aie::exp2<bfloat16>(t.template to_vector<float>());
    const Bf16 r = aie::inv(Bf16(aie::add(one_, e).template to_vector<bfloat16>()));
    const Bf16 missing = aie::msc(aie::sub(one_, r), e, r).template to_vector<bfloat16>();
    return aie::mac(Fp32(r), r, missing);
  }

 private:
  Bf16 highest_ = aie::broadcast<bfloat16, kLanes>(kBeyond);
  Bf16 cubic_ = aie::broadcast<bfloat16, kLanes>(kCubic);
  Fp32 linear_{aie::broadcast<float, kLanes>(kLinear)};
  Fp32 one_{aie::broadcast<float, kLanes>(1.0f)};
};

template <class T>
inline void GeluMul(const T* __restrict gate, const T* __restrict up, bfloat16* __restrict y, int32_t n) {
  const Sigmoid sigmoid;
  const Bf16 lowest = aie::broadcast<bfloat16, kLanes>(-kBeyond);
  for (int32_t i = 0; i < n; i += kLanes) {
    const Bf16 x = aie::max(LoadRounded(gate + i), lowest);
    const Fp32 gelu = aie2p::Multiply(aie2p::Split(sigmoid(x)), x);
    const Fp32 product = aie2p::Multiply(aie2p::Split(gelu), LoadRounded(up + i));
    aie::store_v(y + i, product.template to_vector<bfloat16>());
  }
}

}  // namespace

AIE2P_KERNEL void gelu_mul_f32_aie2p(const float* __restrict gate_up, bfloat16* __restrict y, int32_t n,
                                     int32_t y_offset) {
  aie2p::SetUpRounding();
  GeluMul(gate_up, gate_up + n, y + y_offset, n);
}

AIE2P_KERNEL void gelu_mul_bf16_aie2p(const bfloat16* __restrict gate, const bfloat16* __restrict up,
                                      bfloat16* __restrict y, int32_t n) {
  aie2p::SetUpRounding();
  GeluMul(gate, up, y, n);
}
