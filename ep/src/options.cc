#include "ep/src/options.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "ep/src/error.h"

namespace ryzen_npu_gemma::ep {
namespace {

[[noreturn]] void Refuse(const std::string& key, const std::string& value, const char* expected) {
  throw Error(ErrorCode::kInvalidArgument,
              std::string("option ") + kOptionPrefix + key + ": found \"" + value + "\", needed " + expected);
}

bool Flag(const std::string& key, const std::string& value) {
  if (value == "0" || value == "1") return value == "1";
  Refuse(key, value, "0 or 1");
}

int ThreadCount(const std::string& key, const std::string& value) {
  int count = 0;
  const char* end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, count);
  if (error == std::errc() && stop == end && 0 <= count && count <= kMaxThreads)
    return count == 0 ? kMaxThreads : count;
  Refuse(key, value, "a number from 0 to 1024");
}

}  // namespace

Options ParseOptions(const std::map<std::string, std::string>& session_config) {
  Options options;
  for (const auto& [full_key, value] : session_config) {
    if (!full_key.starts_with(kOptionPrefix)) continue;
    const std::string key = full_key.substr(std::string_view(kOptionPrefix).size());
    if (key == "device") {
      if (value == "auto")
        options.device = DeviceChoice::kAuto;
      else if (value == "npu")
        options.device = DeviceChoice::kNpu;
      else if (value == "host")
        options.device = DeviceChoice::kHost;
      else
        Refuse(key, value, "auto, npu or host");
    } else if (key == "strict") {
      options.strict = Flag(key, value);
    } else if (key == "log_partition_summary") {
      options.log_partition_summary = Flag(key, value);
    } else if (key == "accuracy") {
      if (value == "exact")
        options.accuracy = Accuracy::kExact;
      else if (value == "fast")
        options.accuracy = Accuracy::kFast;
      else
        Refuse(key, value, "exact or fast");
    } else if (key == "threads") {
      options.threads = ThreadCount(key, value);
    } else if (key == "placement_report") {
      options.placement_report = value;
    } else if (key == "profile") {
      options.profile = value;
    } else {
      std::string known;
      for (const OptionDoc& doc : kOptionDocs) known += (known.empty() ? "" : ", ") + std::string(doc.key);
      throw Error(ErrorCode::kInvalidArgument, "option " + full_key + ": unknown key; the EP knows " + known);
    }
  }
  return options;
}

}  // namespace ryzen_npu_gemma::ep
