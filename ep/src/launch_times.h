// When each part of a run's launches began and ended, for those who ask: the option `profile`, onnxruntime's profiler.
// A run that nobody asks about has none of these, only a null pointer.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ryzen_npu_gemma::ep {

inline int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct LaunchTime {
  std::size_t launch;  // index of Plan::launches
  std::string part;    // what of the launch, or of a chain that begins with it
  int64_t begin_ns, end_ns;
  int64_t rows;
  int64_t bytes;       // of weights, or of keys and values, that it cannot but read
  int64_t operations;  // a multiply-add is two
};

class LaunchTimes {
 public:
  LaunchTimes() : end_ns_(NowNs()), begin_ns_(end_ns_) {}

  // From now on it is about these rows of this launch.
  void Begin(std::size_t launch, int64_t rows) {
    launch_ = launch;
    rows_ = rows;
    end_ns_ = NowNs();
  }

  // `part` lasted from the end of the part before it until now.
  void Done(std::string part, int64_t bytes = 0, int64_t operations = 0) {
    const int64_t now = NowNs();
    times_.push_back({launch_, std::move(part), end_ns_, now, rows_, bytes, operations});
    end_ns_ = now;
  }

  int64_t begin_ns() const { return begin_ns_; }
  const std::vector<LaunchTime>& times() const { return times_; }

 private:
  std::vector<LaunchTime> times_;
  int64_t end_ns_;
  const int64_t begin_ns_;
  std::size_t launch_ = 0;
  int64_t rows_ = 0;
};

}  // namespace ryzen_npu_gemma::ep
