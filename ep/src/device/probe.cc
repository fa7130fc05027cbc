#include "ep/src/device/probe.h"

#include <fstream>
#include <system_error>

namespace ryzen_npu_gemma::ep {
namespace {

std::string ReadWord(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string word;
  stream >> word;
  return word;
}

}  // namespace

NpuProbe ProbeNpu(const std::filesystem::path& accel_class) {
  constexpr const char* kVendorAmd = "0x1022";
  std::error_code error;
  std::string others;
  for (const auto& entry : std::filesystem::directory_iterator(accel_class, error)) {
    const std::string vendor = ReadWord(entry.path() / "device" / "vendor"),
                      device = ReadWord(entry.path() / "device" / "device");
    const std::string id = entry.path().filename().string() + " " + vendor + ":" + device;
    if (vendor == kVendorAmd) return {true, id};
    others += (others.empty() ? "" : ", ") + id;
  }
  if (error) return {false, accel_class.string() + " is not there: no accelerator driver is loaded"};
  if (others.empty()) return {false, accel_class.string() + " is empty: no accelerator driver has found a device"};
  return {false, accel_class.string() + " lists no AMD device, only " + others};
}

}  // namespace ryzen_npu_gemma::ep
