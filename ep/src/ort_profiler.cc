#include "ep/src/ort_profiler.h"

#include <unistd.h>

#include <algorithm>
#include <array>

namespace ryzen_npu_gemma::ep {
namespace {

thread_local std::vector<OrtProfiler*> profilers;  // of the events that onnxruntime has begun and not ended, here

}  // namespace

OrtProfiler::OrtProfiler(const Api& api) : OrtEpProfilerImpl{}, api_(api) {
  ort_version_supported = api.version;
  Release = ReleaseImpl;
  StartProfiling = StartProfilingImpl;
  StartEvent = StartEventImpl;
  StopEvent = StopEventImpl;
  EndProfiling = EndProfilingImpl;
}

OrtProfiler* OrtProfiler::OfThisThread() { return profilers.empty() ? nullptr : profilers.back(); }

void OrtProfiler::Add(const std::vector<std::string>& names, const LaunchTimes& run) {
  std::lock_guard lock(mutex_);
  for (const LaunchTime& time : run.times()) times_.push_back({names.at(time.launch), time});
}

void ORT_API_CALL OrtProfiler::ReleaseImpl(OrtEpProfilerImpl* self) noexcept { delete static_cast<OrtProfiler*>(self); }

OrtStatus* ORT_API_CALL OrtProfiler::StartProfilingImpl(OrtEpProfilerImpl* self, int64_t offset_ns) noexcept {
  static_cast<OrtProfiler*>(self)->zero_ns_ = NowNs() - offset_ns;
  return nullptr;
}

OrtStatus* ORT_API_CALL OrtProfiler::StartEventImpl(OrtEpProfilerImpl* self, uint64_t) noexcept {
  auto* profiler = static_cast<OrtProfiler*>(self);
  return Guard(profiler->api_, [&] { profilers.push_back(profiler); });
}

OrtStatus* ORT_API_CALL OrtProfiler::StopEventImpl(OrtEpProfilerImpl* self, uint64_t,
                                                   const OrtProfilingEvent*) noexcept {
  const auto last = std::find(profilers.rbegin(), profilers.rend(), static_cast<OrtProfiler*>(self));
  if (last != profilers.rend()) profilers.erase(std::next(last).base());
  return nullptr;
}

OrtStatus* ORT_API_CALL OrtProfiler::EndProfilingImpl(OrtEpProfilerImpl* self,
                                                      OrtProfilingEventsContainer* events) noexcept {
  auto* profiler = static_cast<OrtProfiler*>(self);
  return Guard(profiler->api_, [&] { profiler->GiveTo(events); });
}

void OrtProfiler::GiveTo(OrtProfilingEventsContainer* events) {
  std::lock_guard lock(mutex_);
  for (const auto& [name, time] : times_) {
    const std::string rows = std::to_string(time.rows), bytes = std::to_string(time.bytes),
                      operations = std::to_string(time.operations);
    const std::array keys{"part", "rows", "bytes", "operations"};
    const std::array values{time.part.c_str(), rows.c_str(), bytes.c_str(), operations.c_str()};
    OrtProfilingEvent* raw = nullptr;
    api_.Check(api_.ep->CreateProfilingEvent(OrtProfilingEventCategory_KERNEL, ::getpid(), 0, name.c_str(),
                                             (time.begin_ns - zero_ns_) / 1000, (time.end_ns - time.begin_ns) / 1000,
                                             keys.data(), values.data(), keys.size(), &raw));
    const auto release = [this](OrtProfilingEvent* event) { api_.ep->ReleaseProfilingEvent(event); };
    const std::unique_ptr<OrtProfilingEvent, decltype(release)> event(raw, release);
    api_.Check(api_.ep->ProfilingEventsContainer_AddEvents(events, &raw, 1));
  }
  times_.clear();
}

}  // namespace ryzen_npu_gemma::ep
