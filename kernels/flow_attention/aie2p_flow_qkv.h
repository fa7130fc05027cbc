// FlowQKV: attention of a tile of query rows over a stream of key and value tiles, on two neighbouring cores.
//
//   Q tile (once)   K tiles                              V tiles
//       |             |                                    |
//   +-----------------------+    message for each      +---------------+
//   | scores: two-limb QK^T, | ---------------------->  | values:       | --> finish: y / l, bf16
//   | masks, online softmax  |   P, rescale c, l        | y = c y + P V |
//   +-----------------------+                           +---------------+
//
// A tile is 32 rows (a multiple of 32) of one KV head: with rows_per_head = 8, eight positions of four heads; with 32,
// one head. Everything is in blocks of 8 x 8, the shape of the multiplier: Q, K, V and y are [rows/8][dims/8][8 rows][8
// dims].
//
// Masks. What a row may see is an interval of keys, whatever the mask: causal, sliding window, full, a causal row
// inside of an image that sees the whole image. flow_qkv_bounds fills the intervals once for a Q tile, from run-time
// ints. A key tile that no row sees costs a message that says so, one that all rows see whole is not masked, the rest
// is.
//
// Numerics. A product in bfp16 (eight values share an exponent) keeps 8 bits of the largest of eight. For scores that
// is too little: Gemma3's keys have outliers, and QK^T in bfp16 alone moves the last hidden state of the 270M by 2.0e-2
// and its KL divergence to 2.3e-3; with two limbs a side (3 products) it is 0.9e-2 and 1.5e-4, what bf16 activations
// cost anyway. P and V stay single (1.7e-2, 3.7e-4). m is an integer
// and follows a score only when that is 2^16 times above it: rescaling is exact, and rare. l sums the very P that
// multiplies V, by multiplying it with a block of ones. A row that sees no key gives 0; a NaN or plus infinity among
// its visible scores makes a row NaN. Rows of K and V behind the last visible key must be finite (padding is zeros): 0
// * NaN is NaN.
#pragma once

#include <type_traits>

#include "kernels/aie2p_limbs.h"

namespace aie2p {

constexpr int32_t kHeadDim = 256;
constexpr int32_t kBlock = 8;
constexpr int32_t kBlockLanes = kBlock * kBlock;
constexpr int32_t kBlockBytes = 72;  // bfp16ebs8
constexpr int32_t kRowGroup = 32;    // four blocks of rows are in registers
constexpr int32_t kGroupBlocks = kRowGroup / kBlock;
constexpr int32_t kDimBlocks = kHeadDim / kBlock;

// What the tile of the designs, 32 rows by 16 keys, takes of a core with K and V double-buffered (contract.py has it
// exactly).
static_assert(2 * kRowGroup * kDimBlocks * 9 + 2 * 16 * kHeadDim * 2 + kRowGroup * kHeadDim * 2 < kDataMemoryBytes);
static_assert(kRowGroup * kHeadDim * 4 + 2 * 16 * kHeadDim * 2 + 16 * kHeadDim * 9 / 8 < kDataMemoryBytes);

constexpr float kNoMaximum = -1048576.0f;  // of a row that saw no key; scores lie within +-2^20

// Bounds: [first, last] visible key of each row, then four ints over all rows.
struct BoundsSummary {
  int32_t first, last;         // a tile outside of these is seen by no row
  int32_t full_from, full_to;  // a tile inside of these is seen whole by every row
};

// A message: P [rows/8][keys/8] blocks of [8 rows][8 keys] bfp16, c [rows] bf16, l [rows] fp32, then 64 bytes with the
// kind.
enum class MessageKind : int32_t { kNothingSeen = 0, kKeep = 1, kRescale = 2 };

// Byte is const where a message is only read.
template <class Byte>
struct Message {
  template <class T>
  using Field = std::conditional_t<std::is_const_v<Byte>, const T, T>;
  Message(Byte* base, int32_t rows, int32_t keys)
      : p(reinterpret_cast<Field<bfp16ebs8>*>(base)),
        c(reinterpret_cast<Field<bfloat16>*>(base + rows * keys / kBlockLanes * kBlockBytes)),
        l(reinterpret_cast<Field<float>*>(c + rows)),
        kind(reinterpret_cast<Field<MessageKind>*>(l + rows)) {}
  Field<bfp16ebs8>* p;
  Field<bfloat16>* c;
  Field<float>* l;
  Field<MessageKind>* kind;
};

// One value a row, for a block [8 rows][8 columns].
inline Bf16<kBlockLanes> AlongRows(const Bf16<kBlock>& rows) {
  return aie::transpose(rows.grow_replicate<kBlockLanes>(), kBlock, kBlock);
}

// Exact: c is a power of two, and the fp32 product has three limbs.
inline Fp32<kBlockLanes> Rescaled(const Fp32<kBlockLanes>& x, const Bf16<kBlock>& c) {
  const Fp32<kBlockLanes> factor(AlongRows(c));
  return aie::mul(x.to_vector<float>(), factor.to_vector<float>());
}

}  // namespace aie2p
