// The options table: every documented key parses, everything else is refused with what, found and needed.
#include "ep/src/options.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ep/src/error.h"

namespace ryzen_npu_gemma::ep {
namespace {

std::string Refusal(const std::string& key, const std::string& value) {
  try {
    ParseOptions({{"ep.ryzennpugemmaep." + key, value}});
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    return e.what();
  }
  return "accepted";
}

TEST(Options, DefaultsAndForeignKeys) {
  const Options options = ParseOptions({{"ep.other.device", "moon"}, {"session.intra_op", "x"}});
  EXPECT_EQ(options.device, DeviceChoice::kAuto);
  EXPECT_FALSE(options.strict);
  EXPECT_EQ(options.accuracy, Accuracy::kFast);
}

TEST(Options, ParsesEveryKey) {
  const Options options = ParseOptions({{"ep.ryzennpugemmaep.device", "npu"},
                                        {"ep.ryzennpugemmaep.strict", "1"},
                                        {"ep.ryzennpugemmaep.accuracy", "exact"},
                                        {"ep.ryzennpugemmaep.threads", "3"},
                                        {"ep.ryzennpugemmaep.placement_report", "/tmp/x"},
                                        {"ep.ryzennpugemmaep.profile", "/tmp/y"},
                                        {"ep.ryzennpugemmaep.log_partition_summary", "1"}});
  EXPECT_EQ(options.device, DeviceChoice::kNpu);
  EXPECT_TRUE(options.strict);
  EXPECT_EQ(options.accuracy, Accuracy::kExact);
  EXPECT_EQ(options.threads, 3);
  EXPECT_TRUE(options.log_partition_summary);
  EXPECT_EQ(options.placement_report, "/tmp/x");
  EXPECT_EQ(options.profile, "/tmp/y");
}

TEST(Options, DocumentedDefaultsAreAccepted) {
  for (const OptionDoc& doc : kOptionDocs) EXPECT_EQ(Refusal(doc.key, doc.fallback), "accepted") << doc.key;
}

TEST(Options, RefusesUnknownKeyAndNamesTheKnownOnes) {
  const std::string text = Refusal("devcie", "npu");
  EXPECT_NE(text.find("ep.ryzennpugemmaep.devcie: unknown key"), std::string::npos) << text;
  for (const OptionDoc& doc : kOptionDocs) EXPECT_NE(text.find(doc.key), std::string::npos) << text;
}

TEST(Options, RefusesUnknownValues) {
  EXPECT_EQ(Refusal("device", "gpu"), "option ep.ryzennpugemmaep.device: found \"gpu\", needed auto, npu or host");
  EXPECT_EQ(Refusal("strict", "yes"), "option ep.ryzennpugemmaep.strict: found \"yes\", needed 0 or 1");
  EXPECT_EQ(Refusal("accuracy", "best"), "option ep.ryzennpugemmaep.accuracy: found \"best\", needed exact or fast");
  for (const char* threads : {"", "two", "-1", "1025", "2 "})
    EXPECT_EQ(Refusal("threads", threads), std::string("option ep.ryzennpugemmaep.threads: found \"") + threads +
                                               "\", needed a number from 0 to 1024");
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
