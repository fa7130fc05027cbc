// One C function for each operation of the emulated AIE API, on vectors of 64 lanes (or of what the operation needs),
// so that pytest can compare it with numpy. Buffers are aligned to 64 bytes.
#include <aie_api/aie.hpp>

#define PROBE extern "C" __attribute__((visibility("default")))

using aie::load_v;
using aie::store_v;

PROBE void set_modes(int32_t rounding, int32_t saturation) {
  aie::set_rounding(static_cast<aie::rounding_mode>(rounding));
  aie::set_saturation(static_cast<aie::saturation_mode>(saturation));
}
PROBE void swap_modes(int32_t* previous, int32_t rounding, int32_t saturation) {
  previous[0] = int32_t(aie::swap_rounding(static_cast<aie::rounding_mode>(rounding)));
  previous[1] = int32_t(aie::swap_saturation(static_cast<aie::saturation_mode>(saturation)));
  previous[2] = int32_t(aie::tile::current().get_rounding());
  previous[3] = int32_t(aie::tile::current().get_saturation());
}

// Conversions.
PROBE void float_to_bf16(const float* x, bfloat16* y) {
  store_v(y, aie::accum<accfloat, 64>(load_v<64>(x)).to_vector<bfloat16>());
}
PROBE void bf16_to_float(const bfloat16* x, float* y) {
  store_v(y, aie::accum<accfloat, 64>(load_v<64>(x)).to_vector<float>());
}
PROBE void scalar_to_bf16(const float* x, bfloat16* y) {
  for (int i = 0; i < 64; ++i) y[i] = bfloat16(x[i]);
}
PROBE void float_to_bfp16(const float* x, bfp16ebs8* y) {
  aie::block_vector_output_buffer_stream<bfp16ebs8, 64>(y)
      << aie::accum<accfloat, 64>(load_v<64>(x)).to_vector<bfp16ebs8>();
}
PROBE void bfp16_to_float(const bfp16ebs8* x, float* y) {
  store_v(y,
          aie::accum<accfloat, 64>(aie::block_vector_input_buffer_stream<bfp16ebs8, 64>(x).pop()).to_vector<float>());
}
#define SRS(name, in, tag, out)                                           \
  PROBE void name(const in* x, out* y, int32_t shift) {                   \
    store_v(y, aie::accum<tag, 64>(load_v<64>(x)).to_vector<out>(shift)); \
  }
SRS(srs_acc32_int8, int32, acc32, int8)
SRS(srs_acc32_uint8, int32, acc32, uint8)
SRS(srs_acc32_int16, int32, acc32, int16)
SRS(srs_acc32_uint16, int32, acc32, uint16)
SRS(srs_acc64_int16, int32, acc64, int16)
SRS(srs_acc64_int32, int32, acc64, int32)
SRS(srs_acc32_int32, int32, acc32, int32)
PROBE void ups_int16(const int16* x, int32* y, int32_t shift) {
  store_v(y, aie::accum<acc32, 64>(load_v<64>(x), shift).to_vector<int32>());
}
PROBE void ups_uint8(const uint8* x, int32* y, int32_t shift) {
  store_v(y, aie::accum<acc32, 64>(load_v<64>(x), shift).to_vector<int32>());
}
PROBE void ups_int4(const int4* x, int32* y) { store_v(y, aie::accum<acc32, 64>(load_v<64>(x)).to_vector<int32>()); }
PROBE void ups_int32(const int32* x, int32* y, int32_t shift) {
  store_v(y, aie::accum<acc32, 64>(load_v<64>(x), shift).to_vector<int32>());
}
PROBE void float_bits_through_acc32(const float* x, float* y) {
  store_v(y, aie::accum<acc32, 64>(load_v<64>(x)).to_vector<float>());
}
#define TO_FLOAT(name, in) \
  PROBE void name(const in* x, float* y, int32_t shift) { store_v(y, aie::to_float(load_v<64>(x), shift)); }
TO_FLOAT(to_float_int16, int16)
TO_FLOAT(to_float_uint8, uint8)
TO_FLOAT(to_float_uint4, uint4)
PROBE void to_fixed_int32(const bfloat16* x, int32* y, int32_t shift) {
  store_v(y, aie::to_fixed<int32>(load_v<64>(x), shift));
}
PROBE void to_fixed_int16(const bfloat16* x, int16* y, int32_t shift) {
  store_v(y, aie::to_fixed<int16>(load_v<64>(x), shift));
}

// Packing.
PROBE void unpack_uint4(const uint4* x, uint8* y) { store_v(y, load_v<128>(x).unpack()); }
PROBE void unpack_int4(const int4* x, int8* y) { store_v(y, load_v<128>(x).unpack()); }
PROBE void unpack_int8(const int8* x, int16* y) { store_v(y, load_v<64>(x).unpack()); }
PROBE void unpack_uint8_signed(const uint8* x, int16* y) { store_v(y, load_v<64>(x).unpack_sign<int16>(true)); }
PROBE void pack_int16(const int16* x, int8* y) { store_v(y, aie::pack(load_v<64>(x))); }
PROBE void pack_uint8(const uint8* x, uint4* y) { store_v(y, aie::pack(load_v<128>(x))); }
PROBE void cast_uint8_to_uint4(const uint8* x, uint8* y) { store_v(y, load_v<64>(x).cast_to<uint4>().unpack()); }
PROBE void cast_float_to_int16(const float* x, int16* y) { store_v(y, aie::vector_cast<int16>(load_v<32>(x))); }

// Arithmetic.
#define BINARY(name, in, out, expression)             \
  PROBE void name(const in* x, const in* y, out* z) { \
    const auto a = load_v<64>(x), b = load_v<64>(y);  \
    store_v(z, expression);                           \
  }
BINARY(mul_bf16, bfloat16, float, aie::mul(a, b).to_vector<float>())
BINARY(negmul_bf16, bfloat16, float, aie::negmul(a, b).to_vector<float>())
BINARY(mul_bf16_scalar, bfloat16, float, aie::mul(a, b.get(3)).to_vector<float>())
BINARY(mul_float, float, float, aie::mul(a, b).to_vector<float>())
BINARY(mul_int8, int8, int32, aie::mul(a, b).to_vector<int32>())
BINARY(mul_int16, int16, int32, aie::mul(a, b).to_vector<int32>())
BINARY(add_bf16, bfloat16, bfloat16, aie::add(a, b))
BINARY(sub_bf16, bfloat16, bfloat16, aie::sub(a, b))
BINARY(add_float, float, float, aie::add(a, b))
BINARY(sub_float, float, float, aie::sub(a, b))
BINARY(add_int8, int8, int8, aie::add(a, b))
BINARY(sub_int16, int16, int16, aie::sub(a, b))
BINARY(add_int32, int32, int32, aie::add(a, b))
BINARY(add_accum_bf16, bfloat16, float, aie::add(aie::mul(a, a), b).to_vector<float>())
BINARY(sub_accum_bf16, bfloat16, float, aie::sub(aie::mul(a, a), b).to_vector<float>())
#define TERNARY(name, in, tag, out, expression)                     \
  PROBE void name(const out* c, const in* x, const in* y, out* z) { \
    const aie::accum<tag, 64> acc(load_v<64>(c));                   \
    const auto a = load_v<64>(x), b = load_v<64>(y);                \
    store_v(z, (expression).template to_vector<out>());             \
  }
TERNARY(mac_bf16, bfloat16, accfloat, float, aie::mac(acc, a, b))
TERNARY(msc_bf16, bfloat16, accfloat, float, aie::msc(acc, a, b))
TERNARY(mac_int8, int8, acc32, int32, aie::mac(acc, a, b))
#define UNARY(name, in, out, lanes, expression) \
  PROBE void name(const in* x, out* y) {        \
    const auto v = load_v<lanes>(x);            \
    store_v(y, expression);                     \
  }
UNARY(neg_bf16, bfloat16, bfloat16, 64, aie::neg(v))
UNARY(abs_bf16, bfloat16, bfloat16, 64, aie::abs(v))
UNARY(abs_int16, int16, int16, 64, aie::abs(v))
UNARY(neg_int8, int8, int8, 64, aie::neg(v))
UNARY(neg_uint8, uint8, uint8, 64, aie::neg(v))
UNARY(abs_uint8, uint8, uint8, 64, aie::abs(v))
UNARY(neg_accum, float, float, 64, aie::neg(aie::accum<accfloat, 64>(v)).to_vector<float>())
#define REDUCE(name, in, lanes, f) \
  PROBE void name(const in* x, in* y) { *y = aie::f(load_v<lanes>(x)); }
REDUCE(reduce_add_bf16, bfloat16, 64, reduce_add)
REDUCE(reduce_add_float16, float, 16, reduce_add)
REDUCE(reduce_add_float64, float, 64, reduce_add)
REDUCE(reduce_add_int32, int32, 64, reduce_add)
REDUCE(reduce_max_bf16, bfloat16, 64, reduce_max)
REDUCE(reduce_min_float, float, 64, reduce_min)
PROBE void reduce_add_v(const float* x, float* y) {
  store_v(y, aie::reduce_add_v(load_v<16>(x), load_v<16>(x + 16), load_v<16>(x + 32), load_v<16>(x + 48)));
}

// Comparison and bits.
#define COMPARE(name, in, f)                                                              \
  PROBE void name(const in* x, const in* y, uint8* z) {                                   \
    const auto mask = aie::f(load_v<64>(x), load_v<64>(y));                               \
    store_v(z, aie::select(aie::zeros<uint8, 64>(), aie::broadcast<uint8, 64>(1), mask)); \
  }
COMPARE(lt_bf16, bfloat16, lt)
COMPARE(ge_bf16, bfloat16, ge)
COMPARE(le_int16, int16, le)
COMPARE(gt_int8, int8, gt)
COMPARE(eq_float, float, eq)
COMPARE(neq_uint8, uint8, neq)
BINARY(max_bf16, bfloat16, bfloat16, aie::max(a, b))
BINARY(min_bf16, bfloat16, bfloat16, aie::min(a, b))
BINARY(max_int8, int8, int8, aie::max(a, b))
BINARY(min_uint8, uint8, uint8, aie::min(a, b))
BINARY(bit_and_uint8, uint8, uint8, aie::bit_and(a, b))
BINARY(bit_or_uint8, uint8, uint8, aie::bit_or(a, b))
BINARY(bit_xor_uint8, uint8, uint8, aie::bit_xor(a, b))
UNARY(bit_not_uint8, uint8, uint8, 64, aie::bit_not(v))
PROBE void upshift_int16(const int16* x, int16* y, int32_t n) { store_v(y, aie::upshift(load_v<64>(x), n)); }
PROBE void downshift_int16(const int16* x, int16* y, int32_t n) { store_v(y, aie::downshift(load_v<64>(x), n)); }

// Reshaping.
#define SHUFFLE(name) \
  PROBE void name(const int16* x, int16* y, int32_t n) { store_v(y, aie::name(load_v<64>(x), n)); }
SHUFFLE(shuffle_up)
SHUFFLE(shuffle_down)
SHUFFLE(shuffle_up_rotate)
SHUFFLE(shuffle_down_rotate)
SHUFFLE(shuffle_up_replicate)
SHUFFLE(shuffle_down_replicate)
PROBE void shuffle_up_fill(const int16* x, const int16* f, int16* y, int32_t n) {
  store_v(y, aie::shuffle_up_fill(load_v<64>(x), load_v<64>(f), n));
}
PROBE void shuffle_down_fill(const int16* x, const int16* f, int16* y, int32_t n) {
  store_v(y, aie::shuffle_down_fill(load_v<64>(x), load_v<64>(f), n));
}
PROBE void interleave_zip(const int16* x, const int16* w, int16* y, int32_t chunk) {
  const auto [low, high] = aie::interleave_zip(load_v<32>(x), load_v<32>(w), chunk);
  store_v(y, aie::concat(low, high));
}
PROBE void interleave_unzip(const int16* x, const int16* w, int16* y, int32_t chunk) {
  const auto [low, high] = aie::interleave_unzip(load_v<32>(x), load_v<32>(w), chunk);
  store_v(y, aie::concat(low, high));
}
PROBE void filter_even(const int16* x, int16* y, int32_t chunk) { store_v(y, aie::filter_even(load_v<64>(x), chunk)); }
PROBE void filter_odd(const int16* x, int16* y, int32_t chunk) { store_v(y, aie::filter_odd(load_v<64>(x), chunk)); }
PROBE void transpose(const int16* x, int16* y, int32_t rows) {
  store_v(y, aie::transpose(load_v<64>(x), rows, 64 / rows));
}
PROBE void reverse(const int16* x, int16* y) { store_v(y, aie::reverse(load_v<64>(x))); }
PROBE void parts(const int16* x, int16* y) {  // the halves swapped, lane 5 overwritten, the first quarter replicated
  const auto v = load_v<64>(x);
  aie::vector<int16, 64> swapped = v;
  swapped.insert(0, v.extract<32>(1)).insert(1, v.extract<32>(0));
  swapped[5] = -1;
  store_v(y, swapped);
  store_v(y + 64, v.extract<16>(0).grow_replicate<64>());
  store_v(y + 128,
          aie::vector<int16, 64>(aie::concat(v.extract<16>(3), v.extract<16>(2), v.extract<16>(1), v.extract<16>(0))));
}
PROBE void iterators(const bfloat16* x, bfloat16* y) {  // y = x by vectors of 16, in reverse order of vectors
  auto in = aie::cbegin_vector<16>(x);
  auto out = aie::begin_vector<16>(y) + 3;
  for (int i = 0; i < 4; ++i, --out) *out = *in++;
}

// Non-linear functions.
UNARY(exp2_float, float, bfloat16, 64, aie::exp2<bfloat16>(v))
UNARY(tanh_float, float, bfloat16, 64, aie::tanh<bfloat16>(v))
UNARY(inv_float, float, float, 64, aie::inv(v))
UNARY(invsqrt_float, float, float, 64, aie::invsqrt(v))
UNARY(inv_bf16, bfloat16, bfloat16, 64, aie::inv(v))

// Matrix multiplication: c += a b.
#define MMUL(name, M, K, N, A, B, C)                    \
  PROBE void name(const A* a, const B* b, C* c) {       \
    aie::mmul<M, K, N, A, B> product(load_v<M * N>(c)); \
    product.mac(load_v<M * K>(a), load_v<K * N>(b));    \
    store_v(c, product.template to_vector<C>());        \
  }
MMUL(mmul_8x8x8_bf16, 8, 8, 8, bfloat16, bfloat16, float)
MMUL(mmul_4x8x8_bf16, 4, 8, 8, bfloat16, bfloat16, float)
MMUL(mmul_8x8x8_int8, 8, 8, 8, int8, int8, int32)
MMUL(mmul_4x8x8_uint8_int8, 4, 8, 8, uint8, int8, int32)
MMUL(mmul_4x16x16_int8_uint4, 4, 16, 16, int8, uint4, int32)
MMUL(mmul_4x16x16_int8_int4, 4, 16, 16, int8, int4, int32)
PROBE void mmul_8x8x8_bfp16(const bfp16ebs8* a, const bfp16ebs8* b, float* c) {
  aie::mmul<8, 8, 8, bfp16ebs8, bfp16ebs8> product(load_v<64>(c));
  product.mac(aie::block_vector_input_buffer_stream<bfp16ebs8, 64>(a).pop(),
              aie::block_vector_input_buffer_stream<bfp16ebs8, 64>(b).pop());
  store_v(c, product.to_vector<float>());
}
PROBE void mmul_8x8x8_bf16_bfp16(const bfloat16* a, const bfp16ebs8* b, float* c) {
  aie::mmul<8, 8, 8, bfloat16, bfp16ebs8> product;
  product.mul(load_v<64>(a), aie::block_vector_input_buffer_stream<bfp16ebs8, 64>(b).pop());
  store_v(c, product.to_vector<float>());
}

// What is counted.
PROBE void count_two_by_two(const bfloat16* x, float* y) {  // four multiplications of two registers by two
  const auto a0 = load_v<64>(x), a1 = load_v<64>(x + 64), b0 = load_v<64>(x + 128), b1 = load_v<64>(x + 192);
  aie::mmul<8, 8, 8, bfloat16> c00, c01, c10, c11;
  c00.mul(a0, b0), c01.mul(a0, b1), c10.mul(a1, b0), c11.mul(a1, b1);
  store_v(y, c00.to_vector<float>()), store_v(y + 64, c01.to_vector<float>());
  store_v(y + 128, c10.to_vector<float>()), store_v(y + 192, c11.to_vector<float>());
}
PROBE void count_unfused(const bfloat16* x, bfloat16* y) {  // widen what was computed, store what was not narrowed
  const aie::accum<accfloat, 64> acc(aie::neg(load_v<64>(x)));
  store_v(y, aie::neg(acc.to_vector<bfloat16>()));
}
PROBE void count_transpose_uint8(const uint8* x, uint8* y) { store_v(y, aie::transpose(load_v<128>(x), 8, 16)); }
