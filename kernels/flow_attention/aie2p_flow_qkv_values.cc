// FlowQKV's second role: weighted sums of V (aie2p_flow_qkv.h).
//   init     y = 0, for a new Q tile
//   values   y = c y + P V for a message and its V tile; dims may be 256, or the half of them that this core keeps
//   finish   y / l of the last message, bf16, in blocks as y: out_rows rows from first_row on, to the start of out
#include "kernels/flow_attention/aie2p_flow_qkv.h"

namespace {

using namespace aie2p;

using Block = aie::block_vector<bfp16ebs8, kBlockLanes>;
using Product = aie::mmul<kBlock, kBlock, kBlock, bfp16ebs8, bfp16ebs8>;
using Lanes = Fp32<kBlockLanes>;
using InputStream = aie::block_vector_input_buffer_stream<bfp16ebs8, kBlockLanes>;

// V [keys/8][dims/8][8 keys][8 dims] to [dims/8][keys/8][8 dims][8 keys] in bfp16, whose exponents are shared along the
// keys.
inline void TransposeValues(const bfloat16* __restrict v, bfp16ebs8* __restrict blocks, int32_t key_blocks,
                            int32_t dim_blocks) {
  aie::block_vector_output_buffer_stream<bfp16ebs8, kBlockLanes> out(blocks);
  for (int32_t dim = 0; dim < dim_blocks; ++dim)
    for (int32_t key = 0; key < key_blocks; ++key) {
      const Bf16<kBlockLanes> block = aie::load_v<kBlockLanes>(v + (key * dim_blocks + dim) * kBlockLanes);
      out.push(Lanes(aie::transpose(block, kBlock, kBlock)).to_vector<bfp16ebs8>());
    }
}

template <bool kRescale>
inline void AddProducts(const Message<const uint8_t>& message, const bfp16ebs8* __restrict v, float* __restrict y,
                        int32_t rows, int32_t key_blocks, int32_t dim_blocks) {
  const int32_t row_step = dim_blocks * kBlockLanes;
  for (int32_t dim = 0; dim < dim_blocks; ++dim, v += key_blocks * kBlockBytes) {
    float* block = y + dim * kBlockLanes;
    const bfloat16* c = message.c;
    InputStream weights(message.p);
    for (int32_t row = 0; row < rows / kBlock; ++row, block += row_step, c += kBlock) {
      Lanes before(aie::load_v<kBlockLanes>(block));
      if constexpr (kRescale) before = Rescaled(before, aie::load_v<kBlock>(c));
      Product sum(before);
      InputStream values(v);
      for (int32_t key = 0; key < key_blocks; ++key) sum.mac(weights.pop(), values.pop());
      aie::store_v(block, sum.to_vector<float>());
    }
  }
}

}  // namespace

AIE2P_KERNEL void flow_qkv_init_aie2p(float* __restrict y, int32_t rows, int32_t dims) {
  SetUpRounding();
  const auto zero = aie::zeros<float, 16>();
  for (int32_t i = 0; i < rows * dims; i += 16) aie::store_v(y + i, zero);
}

AIE2P_KERNEL void flow_qkv_values_aie2p(const uint8_t* __restrict message, const bfloat16* __restrict v,
                                        bfp16ebs8* __restrict v_blocks, float* __restrict y, int32_t rows, int32_t keys,
                                        int32_t dims) {
  SetUpRounding();
  const Message<const uint8_t> in(message, rows, keys);
  if (*in.kind == MessageKind::kNothingSeen) return;
  const int32_t key_blocks = keys / kBlock, dim_blocks = dims / kBlock;
  TransposeValues(v, v_blocks, key_blocks, dim_blocks);
  if (*in.kind == MessageKind::kRescale)
    AddProducts<true>(in, v_blocks, y, rows, key_blocks, dim_blocks);
  else
    AddProducts<false>(in, v_blocks, y, rows, key_blocks, dim_blocks);
}

AIE2P_KERNEL void flow_qkv_finish_aie2p(const uint8_t* __restrict message, const float* __restrict y,
                                        bfloat16* __restrict out, int32_t rows, int32_t keys, int32_t dims,
                                        int32_t first_row, int32_t out_rows) {
  SetUpRounding();
  const Message<const uint8_t> last(message, rows, keys);
  const int32_t dim_blocks = dims / kBlock;
  y += first_row * dims;
  for (int32_t block = first_row / kBlock; block < (first_row + out_rows) / kBlock; ++block) {
    alignas(aie::vector_decl_align) bfloat16 high[kBlock], low[kBlock];
    for (int32_t row = 0; row < kBlock; ++row) {
      const float l = last.l[block * kBlock + row];
      const float inverse = l == 0.0f ? 0.0f : aie::inv(l);
      high[row] = inverse;
      low[row] = inverse - static_cast<float>(high[row]);
    }
    const Limbs<kBlockLanes> inverse = {AlongRows(aie::load_v<kBlock>(high)), AlongRows(aie::load_v<kBlock>(low))};
    for (int32_t dim = 0; dim < dim_blocks; ++dim, y += kBlockLanes, out += kBlockLanes)
      aie::store_v(out, Multiply(LoadOperand<kBlockLanes>(y), inverse).template to_vector<bfloat16>());
  }
}
