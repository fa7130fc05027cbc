#include "kernels/matmul_nbits/round_parameters.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/float16.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr float kLargestScale = 127, kLargestCentre = 255;
constexpr uint32_t kInfinity = 0x7f800000;
constexpr uint16_t kNan = 0x7fc0;  // bfloat16

using Row16 = float[kStripRows];

// The bits of the largest |x| of a row so far; a NaN is larger than all.
using Largest = uint32_t[kStripRows];

struct GroupParameters {
  Row16 scale, centre;
};

GroupParameters Read(const uint8_t* blocks, int64_t half, int64_t g) {
  const uint8_t* block = blocks + g / q4nx::kGroupsPerBlock * q4nx::kBlockBytes4;
  const int64_t offset = (g % q4nx::kGroupsPerBlock * q4nx::kBlockRows + half * kStripRows) * 2;
  uint16_t scale[kStripRows], min[kStripRows];
  std::memcpy(scale, block + q4nx::kScaleOffset + offset, sizeof(scale));
  std::memcpy(min, block + q4nx::kMinOffset + offset, sizeof(min));
  GroupParameters group;
  for (int64_t r = 0; r < kStripRows; ++r) {
    group.scale[r] = Bfloat16ToFloat(scale[r]);
    group.centre[r] = Bfloat16ToFloat(min[r]) + kCentreCode * group.scale[r];
  }
  return group;
}

void Enlarge(const Row16& x, Largest& largest) {
  for (int64_t r = 0; r < kStripRows; ++r)
    largest[r] = std::max(largest[r], std::bit_cast<uint32_t>(x[r]) & 0x7fffffff);
}

// The step of each row, at least its largest over the largest code; rows from `exists` on have none.
struct Units {
  float largest_code;
  uint16_t bfloat16[kStripRows];
  Row16 inverse;

  Units(const Largest& largest, float code, int64_t exists) : largest_code(code) {
    for (int64_t r = 0; r < kStripRows; ++r) {
      const float unit = std::bit_cast<float>(largest[r]) / code;
      const bool finite = largest[r] < kInfinity;
      bfloat16[r] = finite ? static_cast<uint16_t>((std::bit_cast<uint32_t>(unit) + 0xffff) >> 16) : kNan;
      inverse[r] = 1 / Bfloat16ToFloat(bfloat16[r]);
      if (r >= exists || std::isinf(inverse[r])) bfloat16[r] = 0;  // weights below 1e-36 are zero
      if (bfloat16[r] == 0 || !finite) inverse[r] = 0;
    }
  }

  int Round(float x, int64_t r) const {
    if (inverse[r] == 0) return 0;
    // The inverse is rounded, so the largest may come out beyond its code.
    return static_cast<int>(std::clamp(std::nearbyint(x * inverse[r]), -largest_code, largest_code));
  }
};

}  // namespace

void RoundParameters(const NBitsShape& shape, const uint8_t* blocks, int64_t half, int64_t rows, uint8_t* strip) {
  Largest largest_scale = {}, largest_centre = {};
  for (int64_t g = 0; g < shape.groups(); ++g) {
    const GroupParameters group = Read(blocks, half, g);
    Enlarge(group.scale, largest_scale);
    Enlarge(group.centre, largest_centre);
  }
  const Units scale(largest_scale, kLargestScale, rows), centre(largest_centre, kLargestCentre, rows);
  std::memcpy(strip, scale.bfloat16, sizeof(scale.bfloat16));
  std::memcpy(strip + sizeof(scale.bfloat16), centre.bfloat16, sizeof(centre.bfloat16));
  uint8_t* pair = strip + kStripHeadBytes;
  for (int64_t first = 0; first < shape.groups(); first += 2, pair += kPairBytes) {
    for (int64_t i = 0; i < 2; ++i) {
      int16_t codes[kStripRows] = {};
      if (first + i < shape.groups()) {
        const GroupParameters group = Read(blocks, half, first + i);
        for (int64_t r = 0; r < kStripRows; ++r) {
          codes[r] = static_cast<int16_t>(centre.Round(group.centre[r], r) * (1 << kScaleBits) +
                                          scale.Round(std::fabs(group.scale[r]), r));
        }
      }
      std::memcpy(pair + i * static_cast<int64_t>(sizeof(codes)), codes, sizeof(codes));
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
