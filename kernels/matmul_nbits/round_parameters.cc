#include "kernels/matmul_nbits/round_parameters.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/float16.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::kernels {

namespace {

constexpr float kLargestCode = 127;
constexpr uint32_t kInfinity = 0x7f800000;

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

// The step of each row, which is not smaller than 1/127 of its largest; and one over it. `exists` rows do.
struct Units {
  uint16_t bfloat16[kStripRows];
  Row16 inverse;

  Units(const Largest& largest, int64_t exists) {
    for (int64_t r = 0; r < kStripRows; ++r) {
      const float unit = std::bit_cast<float>(largest[r]) / kLargestCode;
      const bool finite = largest[r] < kInfinity;
      bfloat16[r] = finite ? static_cast<uint16_t>((std::bit_cast<uint32_t>(unit) + 0xffff) >> 16) : uint16_t{0x7fc0};
      if (r >= exists) bfloat16[r] = 0;
      const float rounded = Bfloat16ToFloat(bfloat16[r]);
      inverse[r] = rounded > 0 ? 1 / rounded : 0;                       // a NaN has codes of zero
      if (!std::isfinite(inverse[r])) bfloat16[r] = 0, inverse[r] = 0;  // weights below 1e-36
    }
  }

  void Round(const Row16& x, uint8_t* codes) const {
    for (int64_t r = 0; r < kStripRows; ++r) {
      // A product with a rounded inverse may exceed 127 by its rounding.
      const float code =
          inverse[r] > 0 ? std::clamp(std::nearbyint(x[r] * inverse[r]), -kLargestCode, kLargestCode) : 0;
      codes[r] = static_cast<uint8_t>(static_cast<int8_t>(code));
    }
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
  const Units scale(largest_scale, rows), centre(largest_centre, rows);
  std::memcpy(strip, scale.bfloat16, sizeof(scale.bfloat16));
  std::memcpy(strip + sizeof(scale.bfloat16), centre.bfloat16, sizeof(centre.bfloat16));
  uint8_t* pair = strip + kStripHeadBytes;
  for (int64_t first = 0; first < shape.groups(); first += 2, pair += kPairBytes) {
    for (int64_t i = 0; i < 2; ++i) {
      uint8_t* codes = pair + i * 2 * kStripRows;
      if (first + i < shape.groups()) {
        const GroupParameters group = Read(blocks, half, first + i);
        scale.Round(group.scale, codes);
        centre.Round(group.centre, codes + kStripRows);
      } else {
        std::memset(codes, 0, 2 * kStripRows);
      }
    }
  }
}

}  // namespace ryzen_npu_gemma::kernels
