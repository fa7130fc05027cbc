#include "ep/src/device/crew.h"

#include <thread>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace ryzen_npu_gemma::ep {
namespace {

constexpr uint64_t kOver = ~uint64_t{0};  // in the place of a launch: the run is over

uint64_t Blocks(int64_t begin, int64_t end) { return static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(end); }
int64_t Begin(uint64_t blocks) { return static_cast<int64_t>(blocks >> 32); }
int64_t End(uint64_t blocks) { return static_cast<int64_t>(blocks & 0xffffffff); }

void Pause() {
#ifdef __x86_64__
  _mm_pause();
#endif
}

// A load, since a processor drops prefetches when many are on their way.
void Touch(const uint8_t* line) { static_cast<void>(*static_cast<const volatile uint8_t*>(line)); }

}  // namespace

// Returns a value other than `old`.
uint64_t Crew::WaitForChange(const std::atomic<uint64_t>& value, uint64_t old, int place, ReadAhead& ahead) {
  constexpr int kSpins = 2000;  // some 20 to 60 us, longer than what the leader does between two launches of a token
  constexpr int kYields = 50;
  for (int i = 0; i < kSpins + kYields; ++i) {
    const uint64_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    if (Fetch(place, ahead)) continue;
    i < kSpins ? Pause() : std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

bool Crew::Fetch(int place, ReadAhead& ahead) {
  constexpr int64_t kLine = 64;
  const std::vector<MemoryRange>* next = next_.load(std::memory_order_acquire);
  const int count = shares();
  if (!next || place >= count) return false;
  const MemoryRange some = ahead.Next(*next, place, count);
  for (int64_t i = 0; i < some.bytes; i += kLine) Touch(some.data + i);
  return some.bytes > 0;
}

void Crew::Join() {
  if (launch_.load(std::memory_order_acquire) == kOver) return;  // the pool only counts its calls down
  const int place = joined_.fetch_add(1, std::memory_order_relaxed);
  if (place == 0)
    Lead();
  else if (place < most_)
    Help(place);
}

void Crew::Lead() {
  try {
    lead_(lead_arg_, *this);
  } catch (...) {
    failure_ = std::current_exception();
  }
  launch_.store(kOver, std::memory_order_release);
  launch_.notify_all();
}

void Crew::Help(int place) {
  ReadAhead ahead;
  for (uint64_t launch = launch_.load(std::memory_order_acquire); launch != kOver;) {
    TakeAll(place);
    launch = WaitForChange(launch_, launch, place, ahead);
  }
}

void Crew::Run(int64_t n, int64_t grain, RangeFn fn, void* arg) {
  const int64_t blocks = (n + grain - 1) / grain;
  n_ = n;
  grain_ = grain;
  fn_ = fn;
  arg_ = arg;
  done_.store(0, std::memory_order_relaxed);
  const int64_t count = shares();
  for (int64_t i = 0; i < count; ++i)
    shares_[i].left.store(Blocks(blocks * i / count, blocks * (i + 1) / count), std::memory_order_release);
  launch_.store(launch_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  launch_.notify_all();
  TakeAll(0);
  for (uint64_t done = done_.load(std::memory_order_acquire); done != static_cast<uint64_t>(blocks);)
    done = WaitForChange(done_, done, 0, ahead_);
}

// Works until nobody has anything left.
void Crew::TakeAll(int place) {
  const int count = shares();
  if (place < count)
    while (TakeSome(place, true)) continue;
  for (int i = 1; i <= count;) TakeSome((place + i) % count, false) ? i = 1 : ++i;
}

// Takes half of what is left of a share and does it: of one's own the first half, of another's the last, so that it is
// in order that a thread goes through most of its share, and all threads end together.
bool Crew::TakeSome(int share, bool own) {
  std::atomic<uint64_t>& left = shares_[share].left;
  uint64_t blocks = left.load(std::memory_order_acquire), rest;
  int64_t begin, end;
  do {
    begin = Begin(blocks);
    end = End(blocks);
    if (begin == end) return false;
    const int64_t middle = begin + (end - begin + (own ? 1 : 0)) / 2;
    rest = own ? Blocks(middle, end) : Blocks(begin, middle);
    (own ? end : begin) = middle;
  } while (!left.compare_exchange_weak(blocks, rest, std::memory_order_acquire));
  fn_(arg_, begin * grain_, std::min(n_, end * grain_));
  done_.fetch_add(static_cast<uint64_t>(end - begin), std::memory_order_release);
  done_.notify_all();
  return true;
}

}  // namespace ryzen_npu_gemma::ep
