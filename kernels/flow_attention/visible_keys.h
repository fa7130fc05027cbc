// Which keys of a segment a query row may see: a range, and both its ends grow with the row. So neighbouring rows can
// be cut into tiles that see the same keys.
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

struct RowTile {
  int64_t row = 0;
  int64_t rows = 0;
  KeyRange keys;  // counted from the block's begin, not empty
};

// Cuts rows [row, row_end) into tiles of at most max_rows; rows that see no key of the block are in none. Returns how
// many.
inline int64_t CutRows(const QueryTile& tile, const KvSegment& segment, const KeyRange& block, int64_t row,
                       int64_t row_end, int64_t max_rows, RowTile* tiles) {
  int64_t count = 0;
  while (row < row_end) {
    const auto visible = [&](int64_t r) {
      const KeyRange keys = VisibleKeys(tile, segment, r);
      const int64_t begin = std::clamp(keys.begin, block.begin, block.end);
      return KeyRange{begin - block.begin, std::clamp(keys.end, begin, block.end) - block.begin};
    };
    const KeyRange keys = visible(row);
    int64_t rows = std::min(max_rows, row_end - row);
    while (visible(row + rows - 1) != keys) --rows;
    if (keys.size() > 0) tiles[count++] = {row, rows, keys};
    row += rows;
  }
  return count;
}

// Calls attend(block) for the blocks of at most block_keys keys that rows [row, row_end) may see.
template <typename Attend>
void ForEachBlock(const QueryTile& tile, const KvSegment& segment, int64_t row, int64_t row_end, int64_t block_keys,
                  const Attend& attend) {
  const int64_t key_end = VisibleKeys(tile, segment, row_end - 1).end;
  KeyRange block;
  for (block.begin = VisibleKeys(tile, segment, row).begin; block.begin < key_end; block.begin = block.end) {
    block.end = std::min(block.begin + block_keys, key_end);
    attend(block);
  }
}

}  // namespace ryzen_npu_gemma::kernels
