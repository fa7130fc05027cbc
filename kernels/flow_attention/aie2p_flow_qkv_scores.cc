// FlowQKV's first role: scores, masks, online softmax (aie2p_flow_qkv.h).
//   bounds    visible keys of each row: bounds [rows][2] and a summary, int32
//   queries   a Q tile in two bfp16 limbs, [rows/32][dims/8][4 blocks of rows][2 limbs]; softmax of rows that saw
//   nothing scores    a K tile against it: the message for the second role, softmax in and out
#include "kernels/flow_attention/aie2p_flow_qkv.h"

namespace {

using namespace aie2p;

using Block = aie::block_vector<bfp16ebs8, kBlockLanes>;
using Product = aie::mmul<kBlock, kBlock, kBlock, bfp16ebs8, bfp16ebs8>;
using Lanes = Fp32<kBlockLanes>;

// m as bf16 in 16 lanes (a row twice, so that a vector is 32 bytes), then l of each row in 8 lanes, for 8 rows.
constexpr int32_t kSoftmaxFloats = 16 + kBlockLanes;

// A row's maximum follows when a score is this much above it, and not before: P up to 2^16 is as good as up to 1 in
// bf16, bfp16 and fp32, and rescaling y, which costs as much as four tiles, becomes rare.
constexpr float kSlack = 16.0f;

constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: fp32 numbers of this size are integers

struct BlockLimbs {
  Block high, low;
};

inline BlockLimbs SplitBlock(const bfloat16* __restrict x) {
  const Lanes exact(aie::load_v<kBlockLanes>(x));
  const Block high = exact.to_vector<bfp16ebs8>();
  return {high, aie::sub(exact, Lanes(high)).template to_vector<bfp16ebs8>()};
}

// Scores of 8 keys with 32 rows, each block [8 keys][8 rows]: what belongs to a row is 8 lanes apart, and folds without
// shuffles.
inline void ScoreBlocks(const bfp16ebs8* __restrict q, const bfloat16* __restrict k, float* __restrict scores,
                        int32_t score_step) {
  aie::block_vector_input_buffer_stream<bfp16ebs8, kBlockLanes> queries(q);
  Product acc[kGroupBlocks];
  AIE_LOOP_UNROLL_FULL
  for (int32_t block = 0; block < kGroupBlocks; ++block) acc[block] = Product(aie::zeros<accfloat, kBlockLanes>());
  for (int32_t dim = 0; dim < kDimBlocks; ++dim, k += kBlockLanes) {
    const BlockLimbs key = SplitBlock(k);
    AIE_LOOP_UNROLL_FULL
    for (int32_t block = 0; block < kGroupBlocks; ++block) {
      const Block high = queries.pop(), low = queries.pop();
      acc[block].mac(key.low, high);
      acc[block].mac(key.high, low);
      acc[block].mac(key.high, high);
    }
  }
  AIE_LOOP_UNROLL_FULL
  for (int32_t block = 0; block < kGroupBlocks; ++block)
    aie::store_v(scores + block * score_step, acc[block].to_vector<float>());
}

// Which of 8 x 8 scores [key][row] the rows may see.
class BlockMask {
 public:
  BlockMask(const int32_t* __restrict bounds, int32_t first_key, int32_t keys) {
    alignas(aie::vector_decl_align) int16_t first[kBlock], last[kBlock];
    for (int32_t row = 0; row < kBlock; ++row) {  // in keys of the tile, kept within 16 bits
      const int32_t from = bounds[2 * row] - first_key, to = bounds[2 * row + 1] - first_key;
      first[row] = static_cast<int16_t>(from < 0 ? 0 : from < keys ? from : keys);
      last[row] = static_cast<int16_t>(to < keys ? (to < 0 ? -1 : to) : keys);
    }
    first_ = aie::load_v<kBlock>(first).template grow_replicate<kBlockLanes>();
    last_ = aie::load_v<kBlock>(last).template grow_replicate<kBlockLanes>();
  }
  aie::mask<kBlockLanes> operator()(int32_t key_block) const {
    alignas(aie::vector_decl_align) static constexpr int16_t kKeyOfLane[kBlockLanes] = {
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
        4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7};
    const auto key = aie::add(aie::load_v<kBlockLanes>(kKeyOfLane), static_cast<int16_t>(key_block * kBlock));
    return aie::ge(key, first_) & aie::le(key, last_);
  }

 private:
  aie::vector<int16_t, kBlockLanes> first_, last_;
};

// The largest of each row, twice in 16 lanes.
inline Bf16<16> LargestOfRows(const Bf16<kBlockLanes>& scores) {
  const Bf16<32> half = aie::max(scores.extract<32>(0), scores.extract<32>(1));
  const Bf16<16> quarter = aie::max(half.extract<16>(0), half.extract<16>(1));
  const Bf16<8> rows = aie::max(quarter.extract<8>(0), quarter.extract<8>(1));
  return rows.grow_replicate<16>();
}

inline Bf16<16> Integer(const Bf16<16>& x) {
  const Fp32<16> shift(aie::broadcast<float, 16>(kToInteger));
  return aie::sub(aie::add(shift, x), shift).template to_vector<bfloat16>();
}

// Softmax of 8 rows over the keys of the tile. Returns whether rows that saw keys before must be rescaled.
template <bool kMasked>
inline bool SoftmaxRows(const float* __restrict scores, const BlockMask* mask, int32_t key_blocks, const Block& ones,
                        float* __restrict softmax, bfp16ebs8* __restrict p, bfloat16* __restrict c,
                        float* __restrict l) {
  Bf16<kBlockLanes> largest = aie::broadcast<bfloat16, kBlockLanes>(kNoMaximum);
  for (int32_t key = 0; key < key_blocks; ++key) {
    Bf16<kBlockLanes> coarse = Lanes(aie::load_v<kBlockLanes>(scores + key * kBlockLanes)).to_vector<bfloat16>();
    if constexpr (kMasked) coarse = aie::select(bfloat16(kNoMaximum), coarse, (*mask)(key));
    largest = aie::max(largest, coarse);
  }
  bfloat16* maxima = reinterpret_cast<bfloat16*>(softmax);
  const Bf16<16> before = aie::load_v<16>(maxima);
  const Bf16<16> candidate = Integer(LargestOfRows(largest));
  const auto outgrown = aie::lt(aie::add(before, bfloat16(kSlack)), candidate);
  const Bf16<16> maximum = aie::select(before, candidate, outgrown);
  const bool grew = !(outgrown & aie::gt(before, bfloat16(kNoMaximum))).empty();  // y of a first tile is 0 anyway
  const Bf16<16> rescale = aie::exp2<bfloat16>(aie::sub(Fp32<16>(before), maximum).template to_vector<float>());
  aie::store_v(maxima, maximum);
  aie::store_v(c, rescale.extract<8>(0));

  const Lanes level(maximum.grow_replicate<kBlockLanes>());
  Lanes sums(aie::load_v<kBlockLanes>(softmax + 16));
  if (grew) sums = Rescaled(sums, rescale.extract<8>(0));
  Product total(sums);
  aie::block_vector_output_buffer_stream<bfp16ebs8, kBlockLanes> out(p);
  for (int32_t key = 0; key < key_blocks; ++key) {
    const Lanes exact(aie::load_v<kBlockLanes>(scores + key * kBlockLanes));
    Bf16<kBlockLanes> weight = aie::exp2<bfloat16>(aie::sub(exact, level).template to_vector<float>());
    if constexpr (kMasked) weight = aie::select(bfloat16(0.0f), weight, (*mask)(key));
    const Block block = Lanes(aie::transpose(weight, kBlock, kBlock)).to_vector<bfp16ebs8>();
    out.push(block);
    total.mac(block, ones);
  }
  const auto row_sums = total.to_vector<float>();
  aie::store_v(softmax + 16, row_sums);
  aie::store_v(l, aie::filter_even(aie::filter_even(aie::filter_even(row_sums, 1), 1), 1));
  return grew;
}

}  // namespace

AIE2P_KERNEL void flow_qkv_bounds_aie2p(const int32_t* __restrict images, int32_t* __restrict bounds, int32_t rows,
                                        int32_t rows_per_head, int32_t first_position, int32_t length, int32_t causal,
                                        int32_t window, int32_t image_count) {
  SetUpRounding();
  BoundsSummary summary = {length, -1, 0, length - 1};
  for (int32_t row = 0; row < rows; ++row) {
    const int32_t position = first_position + row % rows_per_head;
    int32_t first = 0, last = causal ? position : length - 1;
    if (window > 0 && position - window + 1 > 0) first = position - window + 1;
    for (int32_t image = 0; image < image_count; ++image) {
      const int32_t begin = images[2 * image], end = images[2 * image + 1];
      if (position < begin || position >= end) continue;
      if (begin < first) first = begin;
      if (end - 1 > last) last = end - 1;
    }
    if (last > length - 1) last = length - 1;
    if (position >= length) first = length, last = -1;  // padding sees nothing
    bounds[2 * row] = first;
    bounds[2 * row + 1] = last;
    if (first < summary.first) summary.first = first;
    if (last > summary.last) summary.last = last;
    if (first > summary.full_from) summary.full_from = first;
    if (last < summary.full_to) summary.full_to = last;
  }
  *reinterpret_cast<BoundsSummary*>(bounds + 2 * rows) = summary;
}

AIE2P_KERNEL void flow_qkv_queries_aie2p(const bfloat16* __restrict q, bfp16ebs8* __restrict limbs,
                                         float* __restrict softmax, int32_t rows) {
  SetUpRounding();
  aie::block_vector_output_buffer_stream<bfp16ebs8, kBlockLanes> out(limbs);
  constexpr int32_t kRowStep = kDimBlocks * kBlockLanes;
  for (int32_t group = 0; group < rows / kRowGroup; ++group, q += kGroupBlocks * kRowStep)
    for (int32_t dim = 0; dim < kDimBlocks; ++dim)
      for (int32_t block = 0; block < kGroupBlocks; ++block) {
        const BlockLimbs query = SplitBlock(q + block * kRowStep + dim * kBlockLanes);
        out.push(query.high);
        out.push(query.low);
      }
  const Bf16<16> none = aie::broadcast<bfloat16, 16>(kNoMaximum);
  const auto zero = aie::zeros<float, kBlockLanes>();
  for (int32_t block = 0; block < rows / kBlock; ++block, softmax += kSoftmaxFloats) {
    aie::store_v(reinterpret_cast<bfloat16*>(softmax), none);
    aie::store_v(softmax + 16, zero);
  }
}

AIE2P_KERNEL void flow_qkv_scores_aie2p(const bfp16ebs8* __restrict limbs, const bfloat16* __restrict k,
                                        const int32_t* __restrict bounds, float* __restrict softmax,
                                        float* __restrict scores, uint8_t* __restrict message, int32_t rows,
                                        int32_t keys, int32_t first_key) {
  SetUpRounding();
  Message<uint8_t> out(message, rows, keys);
  const int32_t key_blocks = keys / kBlock, last_key = first_key + keys - 1;
  const BoundsSummary seen = *reinterpret_cast<const BoundsSummary*>(bounds + 2 * rows);
  if (first_key > seen.last || last_key < seen.first) {
    *out.kind = MessageKind::kNothingSeen;
    for (int32_t block = 0; block < rows / kBlock; ++block, softmax += kSoftmaxFloats, out.l += kBlock)
      for (int32_t row = 0; row < kBlock; ++row) out.l[row] = softmax[16 + row * kBlock];
    return;
  }
  const bool whole = first_key >= seen.full_from && last_key <= seen.full_to;
  const Block ones = Lanes(aie::broadcast<bfloat16, kBlockLanes>(1.0f)).to_vector<bfp16ebs8>();
  bool grew = false;
  for (int32_t group = 0; group < rows / kRowGroup; ++group) {
    for (int32_t key = 0; key < key_blocks; ++key)
      ScoreBlocks(limbs, k + key * kDimBlocks * kBlockLanes, scores + key * kBlockLanes, keys * kBlock);
    limbs += kGroupBlocks * kDimBlocks * 2 * kBlockBytes;
    for (int32_t block = 0; block < kGroupBlocks; ++block) {
      const float* tile = scores + block * keys * kBlock;
      if (whole) {
        grew |= SoftmaxRows<false>(tile, nullptr, key_blocks, ones, softmax, out.p, out.c, out.l);
      } else {
        const BlockMask mask(bounds, first_key, keys);
        grew |= SoftmaxRows<true>(tile, &mask, key_blocks, ones, softmax, out.p, out.c, out.l);
      }
      bounds += 2 * kBlock;
      softmax += kSoftmaxFloats;
      out.p += key_blocks * kBlockBytes;
      out.c += kBlock;
      out.l += kBlock;
    }
  }
  *out.kind = grew ? MessageKind::kRescale : MessageKind::kKeep;
}
