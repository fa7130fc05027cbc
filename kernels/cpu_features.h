// Which instruction sets this machine runs, and the rule that picks a kernel: the first row of the op's table that the
// machine supports. Each <op>/kernels.inc lists its rows best first and ends with one that any processor runs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ryzen_npu_gemma::kernels {

inline constexpr uint32_t kAnyCpu = 0;
inline constexpr uint32_t kAvx2 = 1u << 0;        // AVX2, FMA and F16C (x86-64-v3)
inline constexpr uint32_t kAvx512Vnni = 1u << 1;  // kAvx2 and AVX-512 F, BW, VL, VNNI (Ice Lake, Zen 4 and later)
inline constexpr uint32_t kAvx512Bf16 = 1u << 2;  // kAvx512Vnni and AVX-512 BF16 (Cooper Lake, Zen 4 and later)

uint32_t CpuFeatures();

template <typename Fn>
struct KernelRow {
  const char* name;
  uint32_t required;
  Fn fn;

  bool supported() const { return (CpuFeatures() & required) == required; }
};

template <typename Fn, std::size_t kRows>
Fn FirstSupported(const KernelRow<Fn> (&rows)[kRows]) {
  for (const KernelRow<Fn>& row : rows) {
    if (row.supported()) return row.fn;
  }
  return rows[kRows - 1].fn;
}

}  // namespace ryzen_npu_gemma::kernels
