// FlowKV's second role: weighted sums of rows of V, and what becomes of them (aie2p_flow_kv.h).
//   init     softmax and records of heads that saw nothing
//   values   records: y = rescale y + sum of weight * V over up to 16 rows, m and l as in the message
//   merge    records[head] += another part's record
//   finish   y / l of records[head], bf16, at y + y_offset
#include "kernels/flow_attention/aie2p_flow_kv.h"

namespace {

using namespace aie2p;

constexpr unsigned kLanes = 64;
using Acc = Fp32<kLanes>;

// A power of two times an fp32 vector: exact, the product is AMD's of three limbs.
inline Acc Scale(const float* __restrict y, float factor) {
  if (factor == 1.0f) return Acc(aie::load_v<kLanes>(y));
  if (factor == 0.0f) return aie::zeros<accfloat, kLanes>();
  return aie::mul(aie::load_v<kLanes>(y), factor);
}

// kHeads heads by kBlocks blocks of 64 dimensions: four accumulators, so that a load of V serves several heads, and the
// broadcast of a weight several blocks.
template <int kHeads, int kBlocks>
inline void AddRows(const float* __restrict message, const bfloat16* __restrict v, float* __restrict records,
                    int32_t rows) {
  Acc acc[kHeads][kBlocks];
  AIE_LOOP_UNROLL_FULL
  for (int head = 0; head < kHeads; ++head) AIE_LOOP_UNROLL_FULL
  for (int block = 0; block < kBlocks; ++block)
    acc[head][block] =
        Scale(records + head * kRecordFloats + block * kLanes, message[head * kMessageFloats + kMessageRescale]);
  const bfloat16* weights = reinterpret_cast<const bfloat16*>(message);
  for (int32_t row = 0; row < rows; ++row) {
    aie::vector<bfloat16, kLanes> values[kBlocks];
    AIE_LOOP_UNROLL_FULL
    for (int block = 0; block < kBlocks; ++block)
      values[block] = aie::load_v<kLanes>(v + row * kHeadDim + block * kLanes);
    AIE_LOOP_UNROLL_FULL
    for (int head = 0; head < kHeads; ++head) {
      const auto weight = aie::broadcast<bfloat16, kLanes>(weights[head * 2 * kMessageFloats + row]);
      AIE_LOOP_UNROLL_FULL
      for (int block = 0; block < kBlocks; ++block)
        acc[head][block] = aie::mac(acc[head][block], values[block], weight);
    }
  }
  AIE_LOOP_UNROLL_FULL
  for (int head = 0; head < kHeads; ++head) AIE_LOOP_UNROLL_FULL
  for (int block = 0; block < kBlocks; ++block)
    aie::store_v(records + head * kRecordFloats + block * kLanes, acc[head][block].template to_vector<float>());
}

template <int kHeads>
inline void Values(const float* __restrict message, const bfloat16* __restrict v, float* __restrict records,
                   int32_t rows) {
  constexpr int kBlocks = 4 / kHeads;
  for (int32_t i = 0; i < kHeadDim; i += kBlocks * kLanes) AddRows<kHeads, kBlocks>(message, v + i, records + i, rows);
  for (int head = 0; head < kHeads; ++head, message += kMessageFloats, records += kRecordFloats) {
    records[kRecordMaximum] = message[kMessageMaximum];
    records[kRecordSum] = message[kMessageSum];
  }
}

}  // namespace

AIE2P_KERNEL void flow_kv_init_aie2p(float* __restrict softmax, float* __restrict records, int32_t heads) {
  SetUpRounding();
  const aie::vector<float, 16> zero = aie::zeros<float, 16>();
  for (int32_t i = 0; i < heads * kMessageFloats; i += 16) aie::store_v(softmax + i, zero);
  for (int32_t i = 0; i < heads * kRecordFloats; i += 16) aie::store_v(records + i, zero);
  for (int32_t head = 0; head < heads; ++head) {
    softmax[head * kMessageFloats + kMessageMaximum] = static_cast<float>(kNoMaximum);
    records[head * kRecordFloats + kRecordMaximum] = static_cast<float>(kNoMaximum);
  }
}

AIE2P_KERNEL void flow_kv_values_aie2p(const float* __restrict message, const bfloat16* __restrict v,
                                       float* __restrict records, int32_t heads, int32_t first_row, int32_t rows) {
  SetUpRounding();
  v += first_row * kHeadDim;
  const int32_t pairs = heads / 2;
  for (int32_t pair = 0; pair < pairs; ++pair, message += 2 * kMessageFloats, records += 2 * kRecordFloats)
    Values<2>(message, v, records, rows);
  if (heads % 2 != 0) Values<1>(message, v, records, rows);
}

AIE2P_KERNEL void flow_kv_merge_aie2p(const float* __restrict other, float* __restrict records, int32_t head) {
  SetUpRounding();
  float* record = records + head * kRecordFloats;
  const int32_t mine = static_cast<int32_t>(record[kRecordMaximum]);
  const int32_t theirs = static_cast<int32_t>(other[kRecordMaximum]);
  const int32_t maximum = theirs > mine ? theirs : mine;
  const float keep = PowerOfTwo(mine - maximum), take = PowerOfTwo(theirs - maximum);
  for (int32_t i = 0; i < kHeadDim; i += kLanes)
    aie::store_v(record + i, aie::add(Scale(record + i, keep), Scale(other + i, take)).template to_vector<float>());
  record[kRecordMaximum] = static_cast<float>(maximum);
  record[kRecordSum] = record[kRecordSum] * keep + other[kRecordSum] * take;
}

AIE2P_KERNEL void flow_kv_finish_aie2p(const float* __restrict records, bfloat16* __restrict y, int32_t head,
                                       int32_t y_offset) {
  SetUpRounding();
  const float* record = records + head * kRecordFloats;
  const float sum = record[kRecordSum];
  const auto inverse = SplitScalar<kLanes>(sum == 0.0f ? 0.0f : aie::inv(sum));
  for (int32_t i = 0; i < kHeadDim; i += kLanes) {
    const Acc quotient = Multiply(LoadOperand<kLanes>(record + i), inverse);
    aie::store_v(y + y_offset + i, quotient.template to_vector<bfloat16>());
  }
}
