#include "ep/src/device/crew.h"

#include <thread>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace ryzen_npu_gemma::ep {
namespace {

constexpr int kBlockBits = 32;
constexpr uint64_t kBlocks = (uint64_t{1} << kBlockBits) - 1;
constexpr uint64_t kOver = ~uint64_t{0};  // in the place of a launch: the run is over

void Pause() {
#ifdef __x86_64__
  _mm_pause();
#endif
}

// Returns a value other than `old`.
uint64_t WaitForChange(const std::atomic<uint64_t>& value, uint64_t old) {
  constexpr int kSpins = 2000;  // some 20 to 60 us, longer than what the leader does between two launches of a token
  constexpr int kYields = 50;
  for (int i = 0; i < kSpins + kYields; ++i) {
    const uint64_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    i < kSpins ? Pause() : std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

void Crew::Join() {
  if (left_.load(std::memory_order_acquire) == kOver) return;  // the pool only counts its calls down
  const int place = joined_.fetch_add(1, std::memory_order_relaxed);
  if (place == 0)
    Lead();
  else if (place < most_)
    Help();
}

void Crew::Lead() {
  try {
    lead_(lead_arg_, *this);
  } catch (...) {
    failure_ = std::current_exception();
  }
  left_.store(kOver, std::memory_order_release);
  left_.notify_all();
}

void Crew::Help() {
  for (uint64_t left = left_.load(std::memory_order_acquire); left != kOver;) {
    while (TakeBlocks()) continue;
    left = WaitForChange(left_, left);
  }
}

void Crew::Run(int64_t n, int64_t grain, RangeFn fn, void* arg) {
  const int64_t blocks = (n + grain - 1) / grain;
  n_ = n;
  grain_ = grain;
  fn_ = fn;
  arg_ = arg;
  done_.store(0, std::memory_order_relaxed);
  left_.store(++launch_ << kBlockBits | static_cast<uint64_t>(blocks), std::memory_order_release);
  left_.notify_all();
  while (TakeBlocks()) continue;
  for (uint64_t done = done_.load(std::memory_order_acquire); done != static_cast<uint64_t>(blocks);)
    done = WaitForChange(done_, done);
}

// Takes some of the blocks that are left, and does them. The shares shrink as the launch ends, so that all threads end
// together.
bool Crew::TakeBlocks() {
  uint64_t left = left_.load(std::memory_order_acquire);
  int64_t blocks, taken;
  do {
    if (left == kOver || (left & kBlocks) == 0) return false;
    blocks = static_cast<int64_t>(left & kBlocks);
    const int64_t crew = threads();
    taken = crew == 1 ? blocks : std::max<int64_t>(1, blocks / (2 * crew));
  } while (!left_.compare_exchange_weak(left, left - static_cast<uint64_t>(taken), std::memory_order_acquire));
  const int64_t begin = (n_ + grain_ - 1) / grain_ - blocks;
  fn_(arg_, begin * grain_, std::min(n_, (begin + taken) * grain_));
  done_.fetch_add(static_cast<uint64_t>(taken), std::memory_order_release);
  done_.notify_all();
  return true;
}

}  // namespace ryzen_npu_gemma::ep
