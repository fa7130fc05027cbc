#include "ep/src/profile_file.h"

#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstring>

#include "ep/src/error.h"

namespace ryzen_npu_gemma::ep {
namespace {

std::string JsonText(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    char code[8];
    if (static_cast<unsigned char>(c) < 0x20) {
      std::snprintf(code, sizeof(code), "\\u%04x", c);
      escaped += code;
    } else {
      if (c == '"' || c == '\\') escaped += '\\';
      escaped += c;
    }
  }
  return escaped;
}

double Microseconds(int64_t ns) { return static_cast<double>(ns) * 1e-3; }

}  // namespace

ProfileFile::ProfileFile(const std::string& path) : file_(std::fopen(path.c_str(), "we")), start_ns_(NowNs()) {
  if (!file_)
    throw Error(ErrorCode::kInvalidArgument, "option profile: cannot write " + path + ": " + std::strerror(errno) +
                                                 "; give a file that can be made");
}

ProfileFile::~ProfileFile() {
  std::fputs(*separator_ == '[' ? "[]\n" : "\n]\n", file_);
  std::fclose(file_);
}

void ProfileFile::Write(const std::vector<std::string>& names, const LaunchTimes& run) {
  if (run.times().empty()) return;
  std::lock_guard lock(mutex_);
  const auto event = [&](const std::string& name, const char* category, int64_t begin_ns, int64_t end_ns) {
    std::fprintf(file_, R"(%s{"name":"%s","cat":"%s","ph":"X","pid":%d,"tid":0,"ts":%.3f,"dur":%.3f,"args":)",
                 separator_, JsonText(name).c_str(), category, ::getpid(), Microseconds(begin_ns - start_ns_),
                 Microseconds(end_ns - begin_ns));
    separator_ = ",\n";
  };
  event("run", "run", run.begin_ns(), run.times().back().end_ns);
  std::fputs("{}}", file_);
  for (const LaunchTime& time : run.times()) {
    event(names.at(time.launch), time.part.c_str(), time.begin_ns, time.end_ns);
    std::fprintf(file_, R"({"rows":%)" PRId64 R"(,"bytes":%)" PRId64 R"(,"operations":%)" PRId64 "}}", time.rows,
                 time.bytes, time.operations);
  }
  std::fflush(file_);
}

}  // namespace ryzen_npu_gemma::ep
