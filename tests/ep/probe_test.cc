// The NPU probe over made-up /sys/class/accel trees.
#include "ep/src/device/probe.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace ryzen_npu_gemma::ep {
namespace {

class Probe : public testing::Test {
 protected:
  const std::filesystem::path root_ =
      std::filesystem::temp_directory_path() / ("probe_test." + std::to_string(::getpid()));
  void TearDown() override { std::filesystem::remove_all(root_); }

  void AddDevice(const std::string& name, const std::string& vendor, const std::string& device) {
    const auto folder = root_ / name / "device";
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "vendor") << vendor << "\n";
    std::ofstream(folder / "device") << device << "\n";
  }
};

TEST_F(Probe, SaysWhatItLookedAt) {
  EXPECT_FALSE(ProbeNpu(root_ / "absent").found);
  EXPECT_NE(ProbeNpu(root_ / "absent").detail.find("is not there"), std::string::npos);
  std::filesystem::create_directories(root_);
  EXPECT_NE(ProbeNpu(root_).detail.find("is empty"), std::string::npos);
}

TEST_F(Probe, FindsAmdAmongOthers) {
  AddDevice("accel0", "0x8086", "0x7d1d");
  EXPECT_FALSE(ProbeNpu(root_).found);
  EXPECT_NE(ProbeNpu(root_).detail.find("0x8086:0x7d1d"), std::string::npos);
  AddDevice("accel1", "0x1022", "0x17f0");
  EXPECT_TRUE(ProbeNpu(root_).found);
  EXPECT_EQ(ProbeNpu(root_).detail, "accel1 0x1022:0x17f0");
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
