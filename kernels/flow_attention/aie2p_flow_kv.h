// FlowKV: attention of one query position over a stream of keys and values, all query heads of a KV head together.
//
//        K rows                     V rows
//          |                          |
//   +-------------+   message   +-------------+      records of other parts of the sequence
//   |   scores    | ----------> |   values    |                    |
//   | q.k, online |  weights,   | y = c y     |   record     +-----------+    +--------+
//   | softmax     |  rescale c  |   + w V     | -----------> |   merge   | -> | finish | -> y / l, bf16
//   +-------------+             +-------------+              +-----------+    +--------+
//
// The two roles may sit on one core (each core owns a part of the sequence: the message is a local buffer) or on two
// neighbours (the paper's pair: the message is the only thing that crosses). K and V are read once, row after row, as
// they lie in the cache; at 16 rows a call no lane arithmetic needs them in another order.
//
// Numerics. q and K are bf16, their products exact, sums fp32. Scores are in powers of two (qk_norm_rope folded the
// scale and log2(e) into q). The running maximum m is an integer: rescaling by 2^(m_old - m_new) is exact, and in a
// long sequence it is nearly always 1 and skipped. A weight is the core's exp2, a bf16, and l sums the very weights
// that multiply V. A head that saw no row has l = 0 and finishes as 0. A visible score of NaN or plus infinity makes
// its head's output NaN, one of minus infinity has no weight.
#pragma once

#include "kernels/aie2p_limbs.h"

namespace aie2p {

constexpr int32_t kHeadDim = 256;
constexpr int32_t kFlowKvRows = 16;  // most rows of K or V in a call

// Per head, in floats. A message: 16 bf16 weights in 8 floats, then these. softmax holds m and l at the same places.
constexpr int32_t kMessageFloats = 16;
constexpr int32_t kMessageRescale = 8;
constexpr int32_t kMessageMaximum = 9;
constexpr int32_t kMessageSum = 10;

// Unnormalised output [256], m, l, padding to 64 bytes.
constexpr int32_t kRecordFloats = 272;
constexpr int32_t kRecordMaximum = kHeadDim;
constexpr int32_t kRecordSum = kHeadDim + 1;

constexpr int32_t kNoMaximum = -(1 << 20);  // of a head that saw no row; scores lie within +-2^20

// 2^exponent for exponent <= 0, zero below the smallest normal number.
inline float PowerOfTwo(int32_t exponent) {
  return exponent < -126 ? 0.0f : __builtin_bit_cast(float, (127 + exponent) << 23);
}

}  // namespace aie2p
