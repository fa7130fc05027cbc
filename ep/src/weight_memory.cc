#include "ep/src/weight_memory.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <ctime>

namespace ryzen_npu_gemma::ep {
namespace {

// 2 MiB take 0.1 to 0.7 where memory is at hand, whatever the pages, and 4 to 5 where not.
constexpr double kSlowMs = 2;

// A wish: where it is refused nothing changes but speed.
void Wish(uint8_t* data, std::size_t bytes, bool huge) {
#ifdef __linux__
  if (bytes > 0) ::madvise(data, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
}

}  // namespace

std::shared_ptr<kernels::AlignedBuffer> WeightMemory::Slab(std::size_t bytes) {
  auto slab = std::make_shared<kernels::AlignedBuffer>(bytes);  // which wishes for huge pages
  if (last_.expired()) pages_ = Pages::kHuge;                   // another load: memory may be at hand again
  if (pages_ == Pages::kSmall) Wish(slab->data(), slab->size(), false);
  last_ = slab;
  return slab;
}

void WeightMemory::Ready(kernels::AlignedBuffer& slab, const uint8_t* data, std::size_t bytes) {
  const auto begin = static_cast<std::size_t>(data - slab.data());
  // A page belongs to the call that its first byte belongs to.
  for (std::size_t page = (begin + kHugePage - 1) / kHugePage * kHugePage;
       page < begin + bytes && page + kHugePage <= slab.size(); page += kHugePage) {
    Pages pages = pages_;
    if (pages == Pages::kHugeForGood) return;
    if (touch_(slab.data() + page) <= kSlowMs) continue;
    const bool huge = pages == Pages::kSmall;
    if (pages_.compare_exchange_strong(pages, huge ? Pages::kHugeForGood : Pages::kSmall))
      Wish(slab.data(), slab.size(), huge);
  }
}

void WeightMemory::Written(kernels::AlignedBuffer& slab, std::size_t bytes) const {
  if (pages_ == Pages::kSmall) Wish(slab.data(), bytes / kHugePage * kHugePage, true);
}

// In the thread's own time: what other threads take does not count, what the host takes for this one does.
double WeightMemory::TimedTouch([[maybe_unused]] uint8_t* page) {
  const auto now = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
  };
  const double start = now();
#ifdef MADV_POPULATE_WRITE  // Linux 5.14; without it pages come as they are written, and none is found slow
  ::madvise(page, kHugePage, MADV_POPULATE_WRITE);
#endif
  return now() - start;
}

}  // namespace ryzen_npu_gemma::ep
