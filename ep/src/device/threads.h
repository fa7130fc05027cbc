// How a launch is spread over threads. compute.cc implements the pool over ORT's kernel context, crew.h makes the
// pool's threads stay for a whole run, tests use plain loops.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace ryzen_npu_gemma::ep {

struct MemoryRange {
  const uint8_t* data = nullptr;
  int64_t bytes = 0;
};

class Threads {
 public:
  virtual ~Threads() = default;

  // Before a launch: a launch after it will read these pieces, its first items the first bytes and so on. A thread that
  // is done early may fetch what is to be its own. They stay as they are until the run is over.
  virtual void WillRead(const std::vector<MemoryRange>& /*pieces*/) {}

  // Calls fn(begin, end) on ranges that together are [0, n), on several threads when there are any. No range but the
  // last is shorter than `grain`. fn must not throw and must not wait for another range.
  template <class F>
  void ForRange(int64_t n, int64_t grain, F&& fn) {
    if (n <= grain) {
      if (n > 0) fn(int64_t{0}, n);
      return;
    }
    Run(
        n, grain,
        [](void* f, int64_t begin, int64_t end) { (*static_cast<std::remove_reference_t<F>*>(f))(begin, end); }, &fn);
  }

  // Calls fn(begin, end) on ranges that together are [0, rows), of independent rows of `width` elements each.
  template <class F>
  void ForRows(int64_t rows, int64_t width, F&& fn) {
    ForRange(rows, std::max<int64_t>(1, kInlineElements / width), fn);
  }

  // Calls fn(i) for every i < n.
  template <class F>
  void For(int64_t n, F&& fn) {
    ForRange(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) fn(i);
    });
  }

 protected:
  static constexpr int64_t kInlineElements = int64_t{1} << 14;  // fewer cost less than a hand-over to another thread

  using RangeFn = void (*)(void* arg, int64_t begin, int64_t end);

 private:
  virtual void Run(int64_t n, int64_t grain, RangeFn fn, void* arg) = 0;
};

}  // namespace ryzen_npu_gemma::ep
