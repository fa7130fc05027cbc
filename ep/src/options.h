// The session options of the EP, ep.ryzennpugemmaep.<key>: one table gives the parser, the errors and the docs.
#pragma once

#include <map>
#include <string>

namespace ryzen_npu_gemma::ep {

enum class DeviceChoice { kAuto, kNpu, kHost };
enum class Accuracy { kExact, kFast };

inline constexpr int kMaxThreads = 1024;

struct Options {
  DeviceChoice device = DeviceChoice::kAuto;
  bool strict = false;
  Accuracy accuracy = Accuracy::kFast;
  int threads = kMaxThreads;
  bool log_partition_summary = false;
  std::string placement_report;  // path; empty: none
  std::string profile;           // path; empty: none
};

inline constexpr char kOptionPrefix[] = "ep.ryzennpugemmaep.";

struct OptionDoc {
  const char* key;
  const char* values;
  const char* fallback;
  const char* doc;
};
inline constexpr OptionDoc kOptionDocs[] = {
    {"device", "auto|npu|host", "auto",
     "where claimed nodes run; npu fails where there is no NPU, auto takes the CPU then and says so"},
    {"strict", "0|1", "0",
     "1: creating the session fails, with the list of nodes and reasons, when a node of a kind that the EP takes would "
     "run on the CPU EP"},
    {"accuracy", "exact|fast", "fast",
     "exact: fp32 activations and accumulation; fast: matrix products in int8, of weights whose scales are rounded, a "
     "prompt's on rotated weights and activations where the processor has AVX-512 VNNI; it moved the perplexity by "
     "0.05 and 0.3 % (docs/accuracy.md)"},
    {"threads", "0..1024", "0", "at most so many of the session's intra-op threads work in a run; 0: all of them"},
    {"placement_report", "path", "",
     "writes one line for each node the EP was shown: where it runs, or why not (tab-separated)"},
    {"profile", "path", "",
     "writes when each launch of each run began and ended (JSON, for Perfetto or chrome://tracing); onnxruntime's own "
     "profile, from 1.25 on, has them without this option"},
    {"log_partition_summary", "0|1", "0", "1: logs how many nodes and what share of the multiply-adds the EP took"},
};

// Reads the entries whose key starts with kOptionPrefix; others are not ours. Throws Error for an unknown key or value.
Options ParseOptions(const std::map<std::string, std::string>& session_config);

}  // namespace ryzen_npu_gemma::ep
