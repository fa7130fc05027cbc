#include "tests/kernels/bench/roofline.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

#ifdef __x86_64__
int64_t Avx2Fp32(int64_t repetitions);
int64_t Avx2Int8(int64_t repetitions);
int64_t Avx2Int8Sums16(int64_t repetitions);
int64_t Avx512Fp32(int64_t repetitions);
int64_t Avx512Vnni(int64_t repetitions);
#endif

namespace {

constexpr PeakRow kRows[] = {
#ifdef __x86_64__
    {"avx512 vnni", kAvx512Vnni, Avx512Vnni},
    {"avx512 fp32", kAvx512Vnni, Avx512Fp32},
    {"avx2 int8, 16-bit sums", kAvx2, Avx2Int8Sums16},
    {"avx2 int8", kAvx2, Avx2Int8},
    {"avx2 fp32", kAvx2, Avx2Fp32},
#endif
    {nullptr, kAnyCpu, nullptr},
};

constexpr std::size_t kBytes = std::size_t{512} << 20;  // no cache holds it
constexpr int kPasses = 7;

// The most that `work(thread)` got done in a second, all threads together, in the best of several passes.
double BestRate(int threads, const std::function<double(int)>& work) {
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    std::vector<double> done(static_cast<std::size_t>(threads));
    std::vector<std::thread> team;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 1; i < threads; ++i) team.emplace_back([&, i] { done[static_cast<std::size_t>(i)] = work(i); });
    done[0] = work(0);
    for (std::thread& thread : team) thread.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    double all = 0;
    for (const double part : done) all += part;
    best = std::max(best, all / seconds.count());
  }
  return best;
}

}  // namespace

bool PeakRow::supported() const { return (CpuFeatures() & required) == required; }

const PeakRow* PeakRows() { return kRows; }
int PeakRowCount() { return static_cast<int>(std::size(kRows)) - 1; }

uint64_t ReadAll(const uint8_t* begin, const uint8_t* end) {
  using Line [[gnu::vector_size(64), gnu::may_alias]] = uint64_t;  // one cache line; the compiler cuts it as it must
  Line sums[4] = {};
  for (const uint8_t* p = begin; p + 4 * sizeof(Line) <= end; p += 4 * sizeof(Line)) {
    for (int i = 0; i < 4; ++i) sums[i] += reinterpret_cast<const Line*>(p)[i];
  }
  const Line sum = sums[0] + sums[1] + sums[2] + sums[3];
  return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

double ReadBytesPerSecond(int threads) {
  static std::map<int, double> measured;
  const auto found = measured.find(threads);
  if (found != measured.end()) return found->second;
  AlignedBuffer buffer(kBytes);
  std::memset(buffer.data(), 1, kBytes);
  const double rate = BestRate(threads, [&](int thread) {
    const std::size_t part = kBytes / static_cast<std::size_t>(threads) & ~std::size_t{255};
    const uint8_t* begin = buffer.data() + part * static_cast<std::size_t>(thread);
    benchmark::DoNotOptimize(ReadAll(begin, begin + part));
    return static_cast<double>(part);
  });
  return measured[threads] = rate;
}

double PeakOpsPerSecond(const char* name, int threads) {
  static std::map<std::pair<std::string, int>, double> measured;
  const auto found = measured.find({name, threads});
  if (found != measured.end()) return found->second;
  const PeakRow* row =
      std::find_if(kRows, kRows + PeakRowCount(), [&](const PeakRow& r) { return std::strcmp(r.name, name) == 0; });
  if (row == kRows + PeakRowCount() || !row->supported()) return 0;
  const double rate = BestRate(threads, [&](int) { return static_cast<double>(row->run(20'000'000)); });
  return measured[{name, threads}] = rate;
}

}  // namespace ryzen_npu_gemma::kernels
