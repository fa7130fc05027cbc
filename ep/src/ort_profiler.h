// Launches in onnxruntime's own profile (enable_profiling of session or run options; from onnxruntime 1.25 on).
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "ep/src/launch_times.h"
#include "ep/src/ort.h"

namespace ryzen_npu_gemma::ep {

class OrtProfiler : public OrtEpProfilerImpl {
 public:
  explicit OrtProfiler(const Api& api);

  // Whom onnxruntime has told of the node that this thread is running: a run has a profiler of its own when it was
  // asked for in the run's options. Null when nothing is profiled.
  static OrtProfiler* OfThisThread();

  // names: of the launches
  void Add(const std::vector<std::string>& names, const LaunchTimes& run);

 private:
  static void ORT_API_CALL ReleaseImpl(OrtEpProfilerImpl* self) noexcept;
  static OrtStatus* ORT_API_CALL StartProfilingImpl(OrtEpProfilerImpl* self, int64_t offset_ns) noexcept;
  static OrtStatus* ORT_API_CALL StartEventImpl(OrtEpProfilerImpl* self, uint64_t id) noexcept;
  static OrtStatus* ORT_API_CALL StopEventImpl(OrtEpProfilerImpl* self, uint64_t id,
                                               const OrtProfilingEvent* event) noexcept;
  static OrtStatus* ORT_API_CALL EndProfilingImpl(OrtEpProfilerImpl* self,
                                                  OrtProfilingEventsContainer* events) noexcept;
  void GiveTo(OrtProfilingEventsContainer* events);

  struct NamedTime {
    std::string name;
    LaunchTime time;
  };

  const Api api_;
  std::mutex mutex_;
  std::vector<NamedTime> times_;
  int64_t zero_ns_ = 0;  // our clock when onnxruntime's profile was at zero
};

}  // namespace ryzen_npu_gemma::ep
