// Random Q4NX matrices and a scalar reading of their file blocks.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "kernels/float16.h"
#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::kernels {

inline uint16_t FloatToBfloat16(float x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16); }

// Blocks of the file with weights of about 1; the padding holds rubbish, as a hostile file's may.
inline std::vector<uint8_t> RandomBlocks(const NBitsShape& shape, uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> scale(0.05f, 0.2f);
  const int64_t block_bytes = q4nx::BlockBytes(shape.bits);
  std::vector<uint8_t> blocks(static_cast<std::size_t>(q4nx::BlockCount(shape.N, shape.K) * block_bytes));
  for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(engine());
  for (std::size_t block = 0; block < blocks.size(); block += static_cast<std::size_t>(block_bytes)) {
    for (std::size_t i = 0; i < 256; ++i) {
      const float s = shape.bits == 4 ? scale(engine) : scale(engine) / 16;
      const uint16_t scale16 = FloatToBfloat16(s);
      const uint16_t min16 = FloatToBfloat16(-8.3f * s);
      std::memcpy(&blocks[block + i * 2], &scale16, 2);
      if (shape.bits == 4) std::memcpy(&blocks[block + 512 + i * 2], &min16, 2);
    }
  }
  return blocks;
}

struct Weight {
  float scale;
  double min;
  int code;

  double value() const { return static_cast<double>(scale) * code + min; }
  float rounded() const { return static_cast<float>(value()); }
  bool operator==(const Weight&) const = default;
};

inline uint16_t Read16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

// A scalar reading of kernels/q4nx.h.
inline Weight WeightOfBlocks(const NBitsShape& shape, const std::vector<uint8_t>& blocks, int64_t n, int64_t k) {
  const int64_t block = n / 32 * ((shape.K + 255) / 256) + k / 256;
  const uint8_t* bytes = blocks.data() + block * q4nx::BlockBytes(shape.bits);
  const int64_t r = n % 32, c = k % 256, parameter = c / 32 * 32 + r;
  const float scale = Bfloat16ToFloat(Read16(bytes + parameter * 2));
  if (shape.bits == 8) {
    return {scale, 0, static_cast<int8_t>(bytes[512 + r / 16 * 4096 + c * 16 + r % 16])};
  }
  const uint8_t pair = bytes[1024 + r / 16 * 2048 + c * 8 + r % 16 / 2];
  return {scale, Bfloat16ToFloat(Read16(bytes + 512 + parameter * 2)), r % 2 == 0 ? pair & 15 : pair >> 4};
}

// A scalar reading of kernels/matmul_nbits/matmul_nbits.h.
inline Weight WeightOfStrips(const NBitsShape& shape, const uint8_t* packed, int64_t n, int64_t k) {
  const uint8_t* strip = packed + n / 16 * shape.strip_bytes();
  const int64_t g = k / 32, r = n % 16, c = k % 32;
  if (shape.bits == 8) {
    const uint8_t* group = strip + g * 544;
    return {Bfloat16ToFloat(Read16(group + r * 2)), 0, static_cast<int8_t>(group[32 + c / 4 * 64 + r * 4 + c % 4])};
  }
  float scale;
  double min;
  const uint8_t* words;
  if (shape.parameters == Parameters::kRounded) {
    const uint8_t* pair = strip + 64 + g / 2 * 576;
    const auto code = static_cast<int16_t>(Read16(pair + g % 2 * 32 + r * 2));
    scale = Bfloat16ToFloat(Read16(strip + r * 2)) * static_cast<float>(code & 127);
    min = static_cast<double>(Bfloat16ToFloat(Read16(strip + 32 + r * 2))) * (code >> 7) -
          7.5 * static_cast<double>(scale);
    words = pair + 64 + g % 2 * 256;
  } else {
    scale = Bfloat16ToFloat(Read16(strip + g * 320 + r * 2));
    min = Bfloat16ToFloat(Read16(strip + g * 320 + 32 + r * 2));
    words = strip + g * 320 + 64;
  }
  const uint8_t byte = words[c / 8 * 64 + r * 4 + c % 8 / 2];
  return {scale, min, c % 2 == 0 ? byte & 15 : byte >> 4};
}

// File blocks and their strips; a weight is that of the blocks, with the strips' parameters when those are rounded.
class Matrix {
 public:
  Matrix(const NBitsShape& shape, uint32_t seed) : Matrix(shape, RandomBlocks(shape, seed)) {}
  Matrix(const NBitsShape& shape, std::vector<uint8_t> blocks)
      : shape_(shape), blocks_(std::move(blocks)), packed_(static_cast<std::size_t>(shape.packed_bytes())) {
    PackStrips(shape_, blocks_.data(), 0, shape_.strips(), packed_.data());
  }

  const NBitsShape& shape() const { return shape_; }
  const uint8_t* packed() const { return packed_.data(); }
  uint8_t* packed() { return packed_.data(); }
  Weight weight(int64_t n, int64_t k) const {
    return shape_.parameters == Parameters::kRounded ? WeightOfStrips(shape_, packed_.data(), n, k)
                                                     : WeightOfBlocks(shape_, blocks_, n, k);
  }

 private:
  NBitsShape shape_;
  std::vector<uint8_t> blocks_;
  AlignedBuffer packed_;
};

}  // namespace ryzen_npu_gemma::kernels
