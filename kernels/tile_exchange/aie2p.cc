// How tiles hand vectors on: parts of a sum through neighbours' memory, objects into buffers and out again.
//
//   place    out[i] = sums[first + i - sums_first], or 0 where this tile has no part     i = 0 .. count-1
//   add      out[i] += in[i]
//   forward  out[i] = in[i]
//   gather   sums[first + i] += in[i]
//   zero     out[i] = 0
//   load     out[first + i] = the object's i-th float
//   pass     out's byte i = the object's byte first + i
//   store    a row of bf16 = the head of an object
//
// Counts and offsets are multiples of 64 bytes, a vector.
#include "kernels/aie2p.h"

namespace {

constexpr int kFloats = 16;
constexpr int kBytes = 64;

using Floats = aie::vector<float, kFloats>;

void Copy(const uint8_t* __restrict in, uint8_t* __restrict out, int32_t bytes) {
  for (int32_t i = 0; i < bytes; i += kBytes) aie::store_v(out + i, aie::load_v<kBytes>(in + i));
}

void Add(const float* __restrict in, float* __restrict out, int32_t count) {
  for (int32_t i = 0; i < count; i += kFloats)
    aie::store_v(out + i, aie::add(aie::load_v<kFloats>(out + i), aie::load_v<kFloats>(in + i)));
}

}  // namespace

AIE2P_KERNEL void tile_exchange_place_aie2p(const float* __restrict sums, float* __restrict out, int32_t sums_first,
                                            int32_t sums_count, int32_t first, int32_t count) {
  aie2p::SetUpRounding();
  const aie::vector<float, kFloats> none = aie::zeros<float, kFloats>();
  for (int32_t i = 0; i < count; i += kFloats) {
    const int32_t at = first + i - sums_first;
    aie::store_v(out + i, at >= 0 && at < sums_count ? Floats(aie::load_v<kFloats>(sums + at)) : none);
  }
}

AIE2P_KERNEL void tile_exchange_add_aie2p(const float* __restrict in, float* __restrict out, int32_t count) {
  aie2p::SetUpRounding();
  Add(in, out, count);
}

AIE2P_KERNEL void tile_exchange_forward_aie2p(const float* __restrict in, float* __restrict out, int32_t count) {
  aie2p::SetUpRounding();
  for (int32_t i = 0; i < count; i += kFloats) aie::store_v(out + i, aie::load_v<kFloats>(in + i));
}

AIE2P_KERNEL void tile_exchange_gather_aie2p(const float* __restrict in, float* __restrict sums, int32_t first,
                                             int32_t count) {
  aie2p::SetUpRounding();
  Add(in, sums + first, count);
}

AIE2P_KERNEL void tile_exchange_zero_aie2p(float* __restrict out, int32_t count) {
  aie2p::SetUpRounding();
  const aie::vector<float, kFloats> none = aie::zeros<float, kFloats>();
  for (int32_t i = 0; i < count; i += kFloats) aie::store_v(out + i, none);
}

AIE2P_KERNEL void tile_exchange_pass_aie2p(const uint8_t* __restrict object, uint8_t* __restrict out, int32_t first,
                                           int32_t count) {
  aie2p::SetUpRounding();
  Copy(object + first, out, count);
}

// Two names for one thing: in a design, a symbol has one type for each argument.

AIE2P_KERNEL void tile_exchange_load_hidden_aie2p(const uint8_t* __restrict object, float* __restrict out,
                                                  int32_t first, int32_t count) {
  aie2p::SetUpRounding();
  Copy(object, reinterpret_cast<uint8_t*>(out + first), 4 * count);
}

AIE2P_KERNEL void tile_exchange_load_table_aie2p(const uint8_t* __restrict object, float* __restrict out, int32_t first,
                                                 int32_t count) {
  aie2p::SetUpRounding();
  Copy(object, reinterpret_cast<uint8_t*>(out + first), 4 * count);
}

AIE2P_KERNEL void tile_exchange_store_kv_aie2p(const uint8_t* __restrict object, bfloat16* __restrict out,
                                               int32_t count) {
  aie2p::SetUpRounding();
  Copy(object, reinterpret_cast<uint8_t*>(out), 2 * count);
}

AIE2P_KERNEL void tile_exchange_store_hidden_aie2p(const uint8_t* __restrict object, bfloat16* __restrict out,
                                                   int32_t count) {
  aie2p::SetUpRounding();
  Copy(object, reinterpret_cast<uint8_t*>(out), 2 * count);
}
