#include "tests/kernels/bench/roofline.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <thread>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/cpu_features.h"

namespace ryzen_npu_gemma::kernels {

#ifdef __x86_64__
int64_t Avx2Fp32(int64_t repetitions);
int64_t Avx2Int8(int64_t repetitions);
int64_t Avx2Int8Sums16(int64_t repetitions);
int64_t Avx512Bf16(int64_t repetitions);
int64_t Avx512Fp32(int64_t repetitions);
int64_t Avx512Vnni(int64_t repetitions);
#endif

namespace {

constexpr PeakRow kRows[] = {
#ifdef __x86_64__
    {"avx512 vnni", kAvx512Vnni, Avx512Vnni},
    {"avx512 bf16", kAvx512Bf16, Avx512Bf16},
    {"avx512 fp32", kAvx512Vnni, Avx512Fp32},
    {"avx2 int8, 16-bit sums", kAvx2, Avx2Int8Sums16},
    {"avx2 int8", kAvx2, Avx2Int8},
    {"avx2 fp32", kAvx2, Avx2Fp32},
#endif
    {nullptr, kAnyCpu, nullptr},
};

constexpr std::size_t kBytes = std::size_t{512} << 20;  // no cache holds it
constexpr int64_t kRepetitions = 5'000'000;
constexpr int kPasses = 9;

struct Roofline {
  double bytes_per_second = 0;
  std::array<double, std::size(kRows)> ops_per_second{};
};

Roofline& Measured(int threads) {
  static std::map<int, Roofline> of_team;
  return of_team[threads];
}

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
  using Register [[gnu::vector_size(16), gnu::may_alias]] = uint64_t;
  Register sums[4] = {};  // no more than stay in registers
  for (const uint8_t* p = begin; p + 64 <= end; p += 64) {
    __builtin_prefetch(p + 8192);
    for (int i = 0; i < 4; ++i) sums[i] += reinterpret_cast<const Register*>(p)[i];
  }
  const Register sum = sums[0] + sums[1] + sums[2] + sums[3];
  return sum[0] + sum[1];
}

void MeasureReading(int threads) {
  double& rate = Measured(threads).bytes_per_second;
  if (rate > 0) return;
  AlignedBuffer buffer(kBytes);
  std::memset(buffer.data(), 1, kBytes);
  rate = BestRate(threads, [&](int thread) {
    const std::size_t part = kBytes / static_cast<std::size_t>(threads);
    const uint8_t* begin = buffer.data() + part * static_cast<std::size_t>(thread);
    benchmark::DoNotOptimize(ReadAll(begin, begin + part));
    return static_cast<double>(part);
  });
}

void MeasurePeaks(int threads) {
  for (int i = 0; i < PeakRowCount(); ++i) {
    double& rate = Measured(threads).ops_per_second[static_cast<std::size_t>(i)];
    if (rate > 0 || !kRows[i].supported()) continue;
    rate = BestRate(threads, [&](int) { return static_cast<double>(kRows[i].run(kRepetitions)); });
  }
}

double ReadBytesPerSecond(int threads) { return Measured(threads).bytes_per_second; }

double PeakOpsPerSecond(const char* name, int threads) {
  for (int i = 0; i < PeakRowCount(); ++i) {
    if (std::strcmp(kRows[i].name, name) == 0) return Measured(threads).ops_per_second[static_cast<std::size_t>(i)];
  }
  return 0;
}

}  // namespace ryzen_npu_gemma::kernels
