// The file of the option `profile`: every part of every launch as an event of the Trace Event Format, which Perfetto
// and chrome://tracing draw. Each run is written as it ends, so that a long session needs no memory for it.
#pragma once

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ep/src/launch_times.h"

namespace ryzen_npu_gemma::ep {

class ProfileFile {
 public:
  explicit ProfileFile(const std::string& path);  // throws Error when it cannot be written
  ~ProfileFile();
  ProfileFile(const ProfileFile&) = delete;
  ProfileFile& operator=(const ProfileFile&) = delete;

  // names: of the launches
  void Write(const std::vector<std::string>& names, const LaunchTimes& run);

 private:
  std::mutex mutex_;
  std::FILE* file_;
  const int64_t start_ns_;
  const char* separator_ = "[\n";
};

}  // namespace ryzen_npu_gemma::ep
