// The threads of one run. A pool's ParallelFor wakes its workers for every launch, of which a token has about a
// hundred; a crew is one ParallelFor around the whole run. Of the pool's threads that come, the first leads: it runs
// the plan. The others wait between launches, spinning. Each has a share of every launch, the same whenever launches
// are alike, and helps the others when it is done with its own. While it waits in a token it fetches the next product's
// weights.
//
//   - The session's own threads, never more: nothing is started, nothing is left behind, one thread alone is a crew.
//   - Nothing depends on who comes, or when: a pool does not promise that two of its tasks run at once. A thread that
//     is late joins the launch that it finds; one that never comes is not waited for.
//   - Two runs at once are two crews. The second has the threads that the pool can spare, at least its caller.
//   - A waiting thread spins for some microseconds, then lets others run, then sleeps: a busy machine slows a crew down
//     as it does a pool.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <vector>

#include "ep/src/device/read_ahead.h"
#include "ep/src/device/threads.h"

namespace ryzen_npu_gemma::ep {

// Calls task(arg) on up to `most` of its threads, the caller's among them, and returns when all those calls have.
class Pool {
 public:
  virtual ~Pool() = default;
  virtual void Call(int most, void (*task)(void*), void* arg) = 0;
};

class Crew final : public Threads {
 public:
  // Calls lead(crew) once, on one of the pool's threads, with at most `most` threads in the crew. What lead throws is
  // thrown again here.
  template <class F>
  static void Work(Pool& pool, int most, F&& lead) {
    Crew crew(most, [](void* f, Threads& threads) { (*static_cast<std::remove_reference_t<F>*>(f))(threads); }, &lead);
    pool.Call(most, [](void* self) { static_cast<Crew*>(self)->Join(); }, &crew);
    if (crew.failure_) std::rethrow_exception(crew.failure_);
  }

 private:
  static constexpr int kShares = 64;  // later threads only help

  Crew(int most, void (*lead)(void*, Threads&), void* arg) : most_(most), lead_(lead), lead_arg_(arg) {}

  void WillRead(const std::vector<MemoryRange>& pieces) override { next_.store(&pieces, std::memory_order_release); }
  void Run(int64_t n, int64_t grain, RangeFn fn, void* arg) override;
  void Join();
  void Lead();
  void Help(int place);
  void TakeAll(int place);
  bool TakeSome(int share, bool own);
  bool Fetch(int place, ReadAhead& ahead);
  uint64_t WaitForChange(const std::atomic<uint64_t>& value, uint64_t old, int place, ReadAhead& ahead);
  int shares() const { return std::min({joined_.load(std::memory_order_relaxed), most_, kShares}); }

  const int most_;
  void (*const lead_)(void*, Threads&);
  void* const lead_arg_;
  std::exception_ptr failure_;
  std::atomic<int> joined_ = 0;
  alignas(64) ReadAhead ahead_;  // the leader's

  // The launch, cut into blocks of `grain` items. Its fields are written by the leader while nothing of the last launch
  // is left, and read by a thread between taking blocks and reporting them done: never at once.
  alignas(64) std::atomic<uint64_t> launch_ = 0;  // counts them
  int64_t n_ = 0;
  int64_t grain_ = 1;
  RangeFn fn_ = nullptr;
  void* arg_ = nullptr;
  std::atomic<const std::vector<MemoryRange>*> next_ = nullptr;  // what a launch after it reads

  // Blocks that nobody has taken. All shares are empty before those of the next launch are given out, so a share that
  // looks as it did some launches ago is as good to take from.
  struct alignas(64) Share {
    std::atomic<uint64_t> left = 0;  // the first block, above the end
  };
  std::array<Share, kShares> shares_;

  alignas(64) std::atomic<uint64_t> done_ = 0;  // blocks of this launch
};

}  // namespace ryzen_npu_gemma::ep
