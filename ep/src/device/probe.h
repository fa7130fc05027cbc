// Looks for an AMD NPU the way the kernel shows it: /sys/class/accel/accel*/device/{vendor,device}.
#pragma once

#include <filesystem>
#include <string>

namespace ryzen_npu_gemma::ep {

struct NpuProbe {
  bool found = false;
  std::string detail;  // the device, or what was looked at and found instead
};

NpuProbe ProbeNpu(const std::filesystem::path& accel_class = "/sys/class/accel");

}  // namespace ryzen_npu_gemma::ep
