// FlowKV's first role: weights of up to 16 rows of K, and the online softmax over them (aie2p_flow_kv.h).
//   q [heads][256] bf16      k [.][256] bf16, rows first_row to first_row + rows - 1      softmax [heads][16] fp32, in
//   and out message [heads][16] fp32: the weights, the rescaling factor of what came before, m and l skip_row: a row
//   that is not to be seen (the ring slot that the current token evicts), or -1
#include "kernels/flow_attention/aie2p_flow_kv.h"

namespace {

using namespace aie2p;

constexpr unsigned kLanes = 64;
using Row = aie::vector<float, kFlowKvRows>;

// Partial sums of q.k in 16 lanes.
inline Row PartialDot(const bfloat16* __restrict q, const bfloat16* __restrict k) {
  aie::accum<accfloat, kLanes> acc = aie::mul(aie::load_v<kLanes>(q), aie::load_v<kLanes>(k));
  for (int32_t i = kLanes; i < kHeadDim; i += kLanes)
    acc = aie::mac(acc, aie::load_v<kLanes>(q + i), aie::load_v<kLanes>(k + i));
  const auto half = aie::add(acc.extract<32>(0), acc.extract<32>(1));
  return aie::add(half.extract<16>(0), half.extract<16>(1)).template to_vector<float>();
}

// Scores of 16 rows; what lies behind the last row is whatever is in memory there, and masked by the caller.
inline Row Scores(const bfloat16* __restrict q, const bfloat16* __restrict k, int32_t rows) {
  alignas(aie::vector_decl_align) float scores[kFlowKvRows] = {};
  for (int32_t row = 0; row < rows; row += 4) {
    const auto dot = [&](int32_t i) { return PartialDot(q, k + (row + i < rows ? row + i : row) * kHeadDim); };
    const Row sums = aie::reduce_add_v(dot(0), dot(1), dot(2), dot(3));
    aie::store_v(scores + row, sums.extract<4>(0));
  }
  return aie::load_v<kFlowKvRows>(scores);
}

// An integer within one of x; a NaN counts as no maximum.
inline int32_t IntegerMaximum(float x) {
  constexpr float kBound = static_cast<float>(-kNoMaximum);
  return static_cast<int32_t>(x > -kBound ? (x < kBound ? x : kBound) : -kBound);
}

}  // namespace

AIE2P_KERNEL void flow_kv_scores_aie2p(const bfloat16* __restrict q, const bfloat16* __restrict k,
                                       float* __restrict softmax, float* __restrict message, int32_t heads,
                                       int32_t first_row, int32_t rows, int32_t skip_row) {
  SetUpRounding();
  uint32_t seen = (1u << rows) - 1u;
  if (skip_row >= first_row && skip_row < first_row + rows) seen &= ~(1u << (skip_row - first_row));
  const auto visible = aie::mask<kFlowKvRows>::from_uint32(seen);
  k += first_row * kHeadDim;

  for (int32_t head = 0; head < heads; ++head, q += kHeadDim, softmax += kMessageFloats, message += kMessageFloats) {
    const Row scores = Scores(q, k, rows);
    const aie::accum<accfloat, kFlowKvRows> exact(scores);
    const auto coarse = exact.template to_vector<bfloat16>();
    const float highest = aie::reduce_max(aie::select(bfloat16(static_cast<float>(kNoMaximum)), coarse, visible));

    const int32_t before = static_cast<int32_t>(softmax[kMessageMaximum]);
    const int32_t candidate = IntegerMaximum(highest);
    const int32_t maximum = candidate > before ? candidate : before;
    const float rescale = PowerOfTwo(before - maximum);

    const auto below = aie::sub(exact, aie::broadcast<float, kFlowKvRows>(static_cast<float>(maximum)));
    const auto weights = aie::select(bfloat16(0.0f), aie::exp2<bfloat16>(below.template to_vector<float>()), visible);
    const aie::accum<accfloat, kFlowKvRows> summands(weights);
    const float sum = softmax[kMessageSum] * rescale + aie::reduce_add(summands.template to_vector<float>());

    softmax[kMessageMaximum] = static_cast<float>(maximum);
    softmax[kMessageSum] = sum;
    aie::store_v(reinterpret_cast<bfloat16*>(message), weights);
    message[kMessageRescale] = rescale;
    message[kMessageMaximum] = static_cast<float>(maximum);
    message[kMessageSum] = sum;
  }
}
