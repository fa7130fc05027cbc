// aie::mmul<M, K, N, A, B>: a block of matrix multiplication. A is row-major [M][K], B [K][N], the accumulator [M][N];
// where B is bfp16 it is [N][K] with a block for each 8 of K.
//
// How the products of one instruction are summed is not documented. Assumed of fp32: the K products are summed exactly
// and added to the accumulator with one rounding. Evidence: mlir-aie's aie_kernels/aie2p/mm.cc (64 x 64 x 64, uniform
// inputs, power-up rounding) has a relative L1 error of 8.4e-3 here; 9.3e-3 is published for the silicon.
#pragma once

#include "kernels/aie_emulation/arithmetic.h"
#include "kernels/aie_emulation/reshape.h"

namespace aie_emulation {

struct Bfp16Operand {  // [rows][8], one exponent a row
  const uint8_t* exponents;
  const int8_t* mantissas;
};

// acc[M][N] += a[M][8] * b[N][8]^T (mac_8x8_8x8T): integer dot products, scaled by both exponents.
template <unsigned M, unsigned N>
void MultiplyBfp16(const Bfp16Operand& a, const Bfp16Operand& b, float* acc) {
  double scale_b[N];
  int32_t b_kn[8][N];  // transposed, so that compilers vectorise over n
  for (unsigned n = 0; n < N; ++n) {
    scale_b[n] = Bfp16Scale(b.exponents[n]);
    for (unsigned k = 0; k < 8; ++k) b_kn[k][n] = b.mantissas[8 * n + k];
  }
  for (unsigned m = 0; m < M; ++m) {
    const double scale_a = Bfp16Scale(a.exponents[m]);
    int32_t dot[N] = {};
    for (unsigned k = 0; k < 8; ++k)
      for (unsigned n = 0; n < N; ++n) dot[n] += a.mantissas[8 * m + k] * b_kn[k][n];
    for (unsigned n = 0; n < N; ++n)
      acc[m * N + n] = Flush(float(double(Flush(acc[m * N + n])) + double(dot[n]) * scale_a * scale_b[n]));
  }
}

// Operands and product of each shape here, and what one multiplication costs beyond its operands' conversion. AIE API,
// Matrix Multiplication Modes, XDNA 2: 8b x 4b 4x16x16, 8b x 8b 4x8x8 and 8x8x8, bf16 4x8x8 and 8x8x8 (through bfp16
// with the macro below), bfp16 8x8x8. Not in that table but in the headers: int8 2x8x8 and bf16 x bfp16.
template <unsigned M, unsigned K, unsigned N, class A, class B>
struct MmulShape {
  static constexpr bool supported = false;
};

#ifdef AIE_API_EMULATE_BFLOAT16_MMUL_WITH_BFP16
// detail/aie2p/mmul_bf16_bf16.hpp: A widens and converts to bfp16; B is transposed and multiplied by one on its way to
// an accumulator (so that not both operands need the move slot), then converted.
template <unsigned M>
  requires(M == 4 || M == 8)
struct MmulShape<M, 8, 8, bfloat16, bfloat16> {
  static constexpr bool supported = true;
  using tag = accfloat;
  static void Accumulate(const aie::vector<bfloat16, M * 8>& a, const aie::vector<bfloat16, 64>& b,
                         aie::accum<accfloat, M * 8>& acc) {
    const auto a_block = ConvertA(a);
    const auto b_block = ConvertB(b);
    CountMultiply(1);
    MultiplyBfp16<M, 8>({a_block.exponents.data(), a_block.mantissas.data()},
                        {b_block.exponents.data(), b_block.mantissas.data()}, acc.lanes.data());
  }
  static aie::block_vector<bfp16ebs8, 64> ConvertA(const aie::vector<bfloat16, M * 8>& a) {
    const Uncounted again(std::exchange(a.converted_a, true));
    return aie::accum<accfloat, M * 8>(a).template grow<64>().template to_vector<bfp16ebs8>();
  }
  static aie::block_vector<bfp16ebs8, 64> ConvertB(const aie::vector<bfloat16, 64>& b) {
    const Uncounted again(std::exchange(b.converted_b, true));
    aie::vector<bfloat16, 64> one;
    one.lanes.fill(bfloat16(1.0f));
    return aie::mul(aie::transpose(b, 8, 8), one).template to_vector<bfp16ebs8>();
  }
};
#else
// Without bfp16 the product is eight element-wise multiplications of 32 lanes, with two shuffles of A and one of B for
// each (detail/aie2p/emulated_mmul_intrinsics.hpp, mac_4x8_8x8_bf16).
template <unsigned M>
  requires(M == 4 || M == 8)
struct MmulShape<M, 8, 8, bfloat16, bfloat16> {
  static constexpr bool supported = true;
  using tag = accfloat;
  static void Accumulate(const aie::vector<bfloat16, M * 8>& a, const aie::vector<bfloat16, 64>& b,
                         aie::accum<accfloat, M * 8>& acc) {
    CountMultiply(8 * (M / 4)), CountMove((1 + 8 * 3) * (M / 4));
    for (unsigned m = 0; m < M; ++m)
      for (unsigned n = 0; n < 8; ++n)
        for (unsigned k = 0; k < 8; ++k)
          acc.lanes[m * 8 + n] =
              MultiplyAdd(acc.lanes[m * 8 + n], float(a.lanes[m * 8 + k]), float(b.lanes[k * 8 + n]));
  }
};
#endif

// detail/aie2p/mmul_bfp16_bfp16.hpp.
template <>
struct MmulShape<8, 8, 8, bfp16ebs8, bfp16ebs8> {
  static constexpr bool supported = true;
  using tag = accfloat;
  static void Accumulate(const aie::block_vector<bfp16ebs8, 64>& a, const aie::block_vector<bfp16ebs8, 64>& b,
                         aie::accum<accfloat, 64>& acc) {
    CountMultiply(1);
    MultiplyBfp16<8, 8>({a.exponents.data(), a.mantissas.data()}, {b.exponents.data(), b.mantissas.data()},
                        acc.lanes.data());
  }
};
template <>
struct MmulShape<8, 8, 8, bfloat16, bfp16ebs8> {
  static constexpr bool supported = true;
  using tag = accfloat;
  static void Accumulate(const aie::vector<bfloat16, 64>& a, const aie::block_vector<bfp16ebs8, 64>& b,
                         aie::accum<accfloat, 64>& acc) {
    aie::block_vector<bfp16ebs8, 64> a_block;
    {
      const Uncounted again(std::exchange(a.converted_a, true));
      a_block = aie::accum<accfloat, 64>(a).to_vector<bfp16ebs8>();
    }
    MmulShape<8, 8, 8, bfp16ebs8, bfp16ebs8>::Accumulate(a_block, b, acc);
  }
};

template <unsigned M, unsigned K, unsigned N, class A, class B>
void MultiplyIntegers(const aie::vector<A, M * K>& a, const aie::vector<B, K * N>& b, aie::accum<acc32, M * N>& acc) {
  for (unsigned m = 0; m < M; ++m)
    for (unsigned k = 0; k < K; ++k) {
      const int32_t x = int32_t(a.lanes[m * K + k]);
      for (unsigned n = 0; n < N; ++n)
        acc.lanes[m * N + n] = int32_t(uint32_t(acc.lanes[m * N + n]) + uint32_t(x * int32_t(b.lanes[k * N + n])));
    }
}

template <class T>
constexpr bool kIsByte = std::is_same_v<T, int8> || std::is_same_v<T, uint8>;

// detail/aie2p/mmul_8_8.hpp: one instruction for 8x8x8; smaller M does the same work.
template <unsigned M, class A, class B>
  requires(kIsByte<A> && kIsByte<B> && (M == 2 || M == 4 || M == 8))
struct MmulShape<M, 8, 8, A, B> {
  static constexpr bool supported = true;
  using tag = acc32;
  static void Accumulate(const aie::vector<A, M * 8>& a, const aie::vector<B, 64>& b, aie::accum<acc32, M * 8>& acc) {
    CountMultiply(1);
    MultiplyIntegers<M, 8, 8>(a, b, acc);
  }
};

// detail/aie2p/mmul_8_4.hpp: 4x16x16 with 4-bit B. Counted as llvm-aie's aie2p_vmult.h builds it: two unpacks of B
// (free behind a load), a shuffle of A, and two multiplications of 512 products.
template <class A, class B>
  requires(kIsByte<A> && kIsNibble<B>)
struct MmulShape<4, 16, 16, A, B> {
  static constexpr bool supported = true;
  using tag = acc32;
  static void Accumulate(const aie::vector<A, 64>& a, const aie::vector<B, 256>& b, aie::accum<acc32, 64>& acc) {
    if (b.origin != Origin::kLoaded && !std::exchange(b.converted_b, true)) CountLoad(2);
    if (!std::exchange(a.converted_a, true)) CountMove(1);
    CountMultiply(2);
    MultiplyIntegers<4, 16, 16>(a, b, acc);
  }
};

template <class T, unsigned N>
struct BlockOrVector {
  using type = aie::vector<T, N>;
};
template <unsigned N>
struct BlockOrVector<bfp16ebs8, N> {
  using type = aie::block_vector<bfp16ebs8, N>;
};

}  // namespace aie_emulation

namespace aie {

// AIE API, Matrix Multiplication, mmul: "a blocked matrix multiplication C = A x B"; "A * transpose(B)" where B is of
// block type. The accumulator is the default one of Arithmetic.
template <unsigned Rows, unsigned Inner, unsigned Columns, class A, class B = A, class Acc = accauto>
class mmul {
  using shape = aie_emulation::MmulShape<Rows, Inner, Columns, A, B>;
  static_assert(shape::supported, "matrix shape that AIE2P, or this emulation, does not have");
  static_assert(std::is_same_v<Acc, accauto> || std::is_same_v<Acc, typename shape::tag>,
                "accumulator type that the shape does not have");

 public:
  // AIE API, aie::mmul: the three sizes, and how many elements A, B and C have.
  using accum_tag = typename shape::tag;
  static constexpr unsigned M = Rows, K = Inner, N = Columns;
  static constexpr unsigned size_A = M * K, size_B = K * N, size_C = M * N;
  static constexpr unsigned size() { return size_C; }
  using vector_A = typename aie_emulation::BlockOrVector<A, size_A>::type;
  using vector_B = typename aie_emulation::BlockOrVector<B, size_B>::type;
  using accum_type = accum<accum_tag, size_C>;

  // AIE API, aie::mmul: by default "as zero initialised for the first operation"; from an accumulator or a vector of C,
  // "in row-major order".
  mmul() = default;
  mmul(const accum_type& acc) : data_(acc) {}
  template <class T>
  mmul(const vector<T, size_C>& v, int shift = 0) : data_(v, shift) {}
  mmul& operator=(const accum_type& acc) {
    data_ = acc;
    return *this;
  }

  // AIE API, aie::mmul: mul overwrites C with the product, mac adds the product to it; to_vector and to_accum give C,
  // as accum::to_vector does.
  void mul(const vector_A& a, const vector_B& b) {
    data_ = accum_type();
    shape::Accumulate(a, b, data_);
  }
  void mac(const vector_A& a, const vector_B& b) { shape::Accumulate(a, b, data_); }
  template <class T>
  auto to_vector(int shift = 0) const {
    return data_.template to_vector<T>(shift);
  }
  accum_type to_accum() const { return data_; }
  operator accum_type() const { return data_; }

 private:
  accum_type data_{};
};

}  // namespace aie
