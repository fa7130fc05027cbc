// Which keys of a segment a query row may see: a range, and both its ends grow with the row.
#pragma once

#include <algorithm>

#include "kernels/flow_attention/flow_attention.h"

namespace ryzen_npu_gemma::kernels {

// Rows [begin, end) of a segment.
struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
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
