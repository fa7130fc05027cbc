// Which keys of a segment a query row may see, as a range: both ends grow with the row.
#pragma once

#include <algorithm>

#include "kernels/flow_attention/flow_attention.h"

namespace ryzen_npu_gemma::kernels {

struct KeyRange {
  int64_t begin = 0;  // rows of the segment, [begin, end)
  int64_t end = 0;

  bool operator==(const KeyRange&) const = default;
};

inline KeyRange VisibleKeys(const QueryTile& tile, const KvSegment& segment, int64_t row) {
  const int64_t position = tile.first_position + row / tile.group;
  const int64_t first = tile.window > 0 ? position - tile.window + 1 : 0;
  const int64_t begin = std::clamp<int64_t>(first - segment.first_position, 0, segment.rows);
  const int64_t end = std::clamp<int64_t>(position + 1 - segment.first_position, begin, segment.rows);
  return {begin, end};
}

}  // namespace ryzen_npu_gemma::kernels
