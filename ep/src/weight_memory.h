// Memory for packed weights, in the pages that this machine gives quickly.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "kernels/aligned_buffer.h"

namespace ryzen_npu_gemma::ep {

// A huge page (2 MiB) is quicker to get than the 512 small ones in its place, and quicker to read ever after. Not so in
// a virtual machine whose host takes free memory back: it takes blocks of that size, and whoever touches one waits
// until the host has found it others (measured: 4.4 ms each, 1.4 s for the weights of 1B), where small pages come from
// fragments that it left alone (0.6 ms for 2 MiB). No counter tells; a touch does. So pages are huge until one was
// slow, then small, and where those are slow too huge after all.
class WeightMemory {
 public:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;

  // Makes the 2 MiB from `page` on the process's and returns the milliseconds that it took; what is there stays.
  using Touch = std::function<double(uint8_t* page)>;

  WeightMemory() : WeightMemory(TimedTouch) {}
  explicit WeightMemory(Touch touch) : touch_(std::move(touch)) {}

  // Memory that nobody has touched yet.
  std::shared_ptr<kernels::AlignedBuffer> Slab(std::size_t bytes);

  // To be called before `bytes` from `data` on are written for the first time; by several threads, each its own part.
  void Ready(kernels::AlignedBuffer& slab, const uint8_t* data, std::size_t bytes);

  // The first `bytes` are written: the system may make huge pages of small ones when it has time.
  void Written(kernels::AlignedBuffer& slab, std::size_t bytes) const;

 private:
  enum class Pages { kHuge, kSmall, kHugeForGood };
  static double TimedTouch(uint8_t* page);

  Touch touch_;
  std::atomic<Pages> pages_ = Pages::kHuge;
  std::weak_ptr<kernels::AlignedBuffer> last_;
};

}  // namespace ryzen_npu_gemma::ep
