// Cutting a count into parts of nearly one size: 9 rows in tiles of at most 8 are 5 and 4, not 8 and 1.
#pragma once

#include <cstdint>

namespace ryzen_npu_gemma::kernels {

// The size of the next of the equal parts, each at most `limit`, that `count` is cut into.
inline int64_t NextPart(int64_t count, int64_t limit) {
  const int64_t parts = (count + limit - 1) / limit;
  return (count + parts - 1) / parts;
}

}  // namespace ryzen_npu_gemma::kernels
