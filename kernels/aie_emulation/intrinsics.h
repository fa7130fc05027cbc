// The few intrinsics and compiler words that public AIE2P kernels use beside the aie:: names. The AIE API documents
// none of them; each is what the API's own headers make of it.
#pragma once

#include "kernels/aie_emulation/mmul.h"

#define restrict __restrict
#define chess_prepare_for_pipelining
#define chess_loop_range(...)
#define chess_flatten_loop
#define chess_unroll_loop(...)
#define chess_copy(x) (x)

inline void event0() {}
inline void event1() {}

inline aie::vector<bfloat16, 32> broadcast_one_to_v32bfloat16() { return aie::broadcast<bfloat16, 32>(1.0f); }
inline aie::vector<bfloat16, 64> concat(const aie::vector<bfloat16, 32>& low, const aie::vector<bfloat16, 32>& high) {
  return aie::concat(low, high);
}
inline aie::accum<accfloat, 64> mul_elem_64(const aie::vector<bfloat16, 64>& a, const aie::vector<bfloat16, 64>& b) {
  return aie::mul(a, b);
}

inline aie::accum<accfloat, 64> mac_8x8_8x8T(const aie::block_vector<bfp16ebs8, 64>& a,
                                             const aie::block_vector<bfp16ebs8, 64>& b, aie::accum<accfloat, 64> acc) {
  aie_emulation::MmulShape<8, 8, 8, bfp16ebs8, bfp16ebs8>::Accumulate(a, b, acc);
  return acc;
}
inline aie::accum<accfloat, 64> mul_8x8_8x8T(const aie::block_vector<bfp16ebs8, 64>& a,
                                             const aie::block_vector<bfp16ebs8, 64>& b) {
  return mac_8x8_8x8T(a, b, {});
}
