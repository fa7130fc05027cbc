// The crew: every item of every launch is done once, whoever comes and when; errors come out; runs at once do not meet.
// Under ThreadSanitizer this test watches the hand-over of launches.
#include "ep/src/device/crew.h"

#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ryzen_npu_gemma::ep {
namespace {

// `threads` threads, the caller's last; or one after the other when the machine has but one to spare.
class TestPool final : public Pool {
 public:
  explicit TestPool(int threads, bool at_once = true) : threads_(threads), at_once_(at_once) {}

  void Call(int, void (*task)(void*), void* arg) override {
    std::vector<std::jthread> others;
    for (int i = 1; i < threads_; ++i) {
      if (at_once_)
        others.emplace_back(task, arg);
      else
        task(arg);
    }
    task(arg);
  }

 private:
  const int threads_;
  const bool at_once_;
};

// Launches of changing size; each reads what the one before it wrote, as the plan of a model does.
std::vector<int64_t> ManyLaunches(Threads& threads, int launches) {
  std::vector<int64_t> x(257, 1), y(257);
  for (int i = 0; i < launches; ++i) {
    const int64_t n = 1 + i % 257, grain = 1 + i % 7;
    threads.ForRange(n, grain, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) y[j] = x[n - 1 - j] + j;
    });
    std::swap(x, y);
    std::copy_n(x.begin(), n, y.begin());
  }
  return x;
}

class OneThread final : public Threads {
  void Run(int64_t n, int64_t, RangeFn fn, void* arg) override { fn(arg, 0, n); }
};

TEST(Crew, DoesEveryItemOnce) {
  TestPool pool(4);
  Crew::Work(pool, 4, [](Threads& crew) {
    for (int64_t n : {0, 1, 2, 3, 100, 1000}) {
      std::vector<std::atomic<int>> times(static_cast<std::size_t>(n));
      crew.For(n, [&](int64_t i) { ++times[i]; });
      for (const auto& count : times) ASSERT_EQ(count, 1) << n;
    }
  });
}

TEST(Crew, RangesKeepTheGrain) {
  TestPool pool(3);
  Crew::Work(pool, 3, [](Threads& crew) {
    crew.ForRange(1003, 10, [](int64_t begin, int64_t end) {
      EXPECT_EQ(begin % 10, 0);
      EXPECT_TRUE(end - begin >= 10 || end == 1003);
    });
  });
}

TEST(Crew, LaunchesFollowOneAnother) {
  constexpr int kLaunches = 20000;
  OneThread one;
  const std::vector<int64_t> want = ManyLaunches(one, kLaunches);
  for (int threads : {1, 2, 3, 8}) {
    TestPool pool(threads);
    std::vector<int64_t> found;
    Crew::Work(pool, threads, [&](Threads& crew) { found = ManyLaunches(crew, kLaunches); });
    EXPECT_EQ(found, want) << threads;
  }
}

TEST(Crew, LeadsOnceWhenTheThreadsComeOneAfterTheOther) {
  TestPool pool(3, false);
  int led = 0;
  Crew::Work(pool, 3, [&](Threads& crew) {
    ++led;
    ManyLaunches(crew, 100);
  });
  EXPECT_EQ(led, 1);
}

TEST(Crew, ThreadsBeyondTheSharesHelp) {
  OneThread one;
  const std::vector<int64_t> want = ManyLaunches(one, 300);
  TestPool pool(70);
  Crew::Work(pool, 70, [&](Threads& crew) { EXPECT_EQ(ManyLaunches(crew, 300), want); });
}

// The leader does all but what the other thread, which does not get on, has already taken.
TEST(Crew, WhoIsSlowIsHelped) {
  constexpr int64_t kItems = 64;
  TestPool pool(2);
  Crew::Work(pool, 2, [&](Threads& crew) {
    const std::thread::id leader = std::this_thread::get_id();
    std::atomic<int64_t> done = 0;
    std::atomic<bool> both = false;
    while (!both)
      crew.ForRange(kItems, 1, [&](int64_t begin, int64_t end) {
        if (std::this_thread::get_id() == leader) {
          done += end - begin;
          return;
        }
        const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (done % kItems != (begin - end + kItems) % kItems && std::chrono::steady_clock::now() < late)
          std::this_thread::yield();
        EXPECT_EQ(done % kItems, (begin - end + kItems) % kItems);
        done += end - begin;
        both = true;
      });
  });
}

// Each launch but the last says what the one after it reads; the pieces are of odd lengths, one of them empty.
TEST(Crew, WhatIsReadAheadIsOnlyRead) {
  const std::vector<uint8_t> bytes(300'001, 7);
  const std::vector<MemoryRange> pieces = {
      {bytes.data(), 1000}, {bytes.data() + 1000, 0}, {bytes.data() + 1000, 299'001}};
  const std::vector<MemoryRange> none;
  for (int threads : {1, 3}) {
    TestPool pool(threads);
    Crew::Work(pool, threads, [&](Threads& crew) {
      for (int i = 0; i < 200; ++i) {
        crew.WillRead(i % 2 ? none : pieces);
        std::atomic<int> sum = 0;
        crew.For(64, [&](int64_t) { ++sum; });
        EXPECT_EQ(sum, 64);
        const auto later = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
        while (std::chrono::steady_clock::now() < later) continue;
      }
    });
  }
}

TEST(ReadAhead, GoesThroughOneShareOnce) {
  constexpr int64_t step = ReadAhead::kStepBytes;
  const std::vector<uint8_t> bytes(3 * ReadAhead::kMostBytes);
  const uint8_t* a = bytes.data();
  const std::vector<MemoryRange> pieces = {{a, 3 * step}, {a + 3 * step, 1}, {a + 4 * step, 3 * step - 1}};
  ReadAhead ahead;
  std::vector<std::pair<int64_t, int64_t>> found;
  const auto all = [&](const std::vector<MemoryRange>& of, int place, int count) {
    found.clear();
    for (MemoryRange some = ahead.Next(of, place, count); some.bytes > 0; some = ahead.Next(of, place, count))
      found.emplace_back(some.data - a, some.bytes);
    return found;
  };
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(all(pieces, 1, 3), (Ranges{{2 * step, step}, {3 * step, 1}, {4 * step, step - 1}}));
  EXPECT_EQ(all(pieces, 1, 3), Ranges{});  // until it is told of others
  const std::vector<MemoryRange> same = pieces, long_piece = {{a, ReadAhead::kMostBytes * 3}};
  EXPECT_EQ(all(same, 0, 3), (Ranges{{0, step}, {step, step}}));
  EXPECT_EQ(all({}, 0, 1), Ranges{});
  EXPECT_EQ(all(long_piece, 1, 2).front(), std::make_pair(ReadAhead::kMostBytes * 3 / 2, step));
  EXPECT_EQ(static_cast<int64_t>(found.size()), ReadAhead::kMostBytes / step);
}

TEST(Crew, SleepersWakeUp) {
  TestPool pool(3);
  Crew::Work(pool, 3, [](Threads& crew) {
    for (int i = 0; i < 3; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::atomic<int> sum = 0;
      crew.For(64, [&](int64_t) { ++sum; });
      EXPECT_EQ(sum, 64);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // and they hear that the run is over
  });
}

TEST(Crew, HasAtMostSoManyThreads) {
  TestPool pool(8);
  Crew::Work(pool, 2, [](Threads& crew) {
    std::atomic<int> inside = 0, most = 0;
    crew.For(64, [&](int64_t) {
      const int now = ++inside;
      for (int old = most; old < now && !most.compare_exchange_weak(old, now);) continue;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      --inside;
    });
    EXPECT_LE(most, 2);
  });
}

TEST(Crew, AnErrorOfTheRunComesOut) {
  TestPool pool(4);
  try {
    Crew::Work(pool, 4, [](Threads& crew) {
      ManyLaunches(crew, 10);
      throw std::runtime_error("stopped");
    });
    FAIL() << "no error";
  } catch (const std::runtime_error& e) {
    EXPECT_EQ(std::string(e.what()), "stopped");
  }
}

TEST(Crew, TwoRunsAtOnceDoNotMeet) {
  OneThread one;
  const std::vector<int64_t> want = ManyLaunches(one, 5000);
  std::vector<std::jthread> runs;
  for (int i = 0; i < 3; ++i) {
    runs.emplace_back([&] {
      TestPool pool(2);
      Crew::Work(pool, 2, [&](Threads& crew) { EXPECT_EQ(ManyLaunches(crew, 5000), want); });
    });
  }
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
