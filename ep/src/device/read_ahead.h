// What a thread that waits may fetch into its caches: the first part of its share of what is read next. While one
// thread works on a single row of activations, memory would otherwise rest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ep/src/device/threads.h"

namespace ryzen_npu_gemma::ep {

class ReadAhead {
 public:
  static constexpr int64_t kMostBytes = 256 << 10;  // of a share: a quarter of a Zen 5 core's L2
  static constexpr int64_t kStepBytes = 1 << 10;    // between two looks whether there is work

  // The next bytes of share `place` of `count` of the pieces, when they are others than before from its begin on. Of no
  // length at the end.
  MemoryRange Next(const std::vector<MemoryRange>& pieces, int place, int count) {
    if (&pieces != pieces_) {
      pieces_ = &pieces;
      int64_t total = 0;
      for (const MemoryRange& piece : pieces) total += piece.bytes;
      at_ = total * place / count;
      end_ = std::min(at_ + kMostBytes, total * (place + 1) / count);
    }
    int64_t offset = at_;
    for (const MemoryRange& piece : pieces) {
      if (offset < piece.bytes) {
        const int64_t bytes = std::min({kStepBytes, end_ - at_, piece.bytes - offset});
        at_ += bytes;
        return {piece.data + offset, bytes};
      }
      offset -= piece.bytes;
    }
    return {};
  }

 private:
  const std::vector<MemoryRange>* pieces_ = nullptr;
  int64_t at_ = 0, end_ = 0;  // in the pieces, one after the other
};

}  // namespace ryzen_npu_gemma::ep
