// What every AIE2P kernel includes: facts of the core, and the words by which kernels tell Peano about their loops.
// Compiles for the core (Peano, -target aie2p-none-unknown-elf, AMD's aie_api) and for the host
// (kernels/aie_emulation).
#pragma once

#include <aie_api/aie.hpp>
#include <cstdint>

namespace aie2p {

// L1 of a core, stack included. Mirrored in kernels/sim/hardware.py and kernels/contract.py; a test compares them.
constexpr int kDataMemoryBytes = 64 * 1024;

// Cores power up in floor rounding, which costs a factor of 41 in matmul error (amd/IRON): every kernel starts with
// this.
inline void SetUpRounding() {
  aie::set_rounding(aie::rounding_mode::conv_even);
  aie::set_saturation(aie::saturation_mode::saturate);
}

}  // namespace aie2p

// A kernel is called by the array design: C linkage, and visible in the host library.
#if defined(AIE_HOST_EMULATION)
#define AIE2P_KERNEL extern "C" __attribute__((visibility("default")))
#else
#define AIE2P_KERNEL extern "C"
#endif

// Peano's loop hints; without effect on the host.
#if defined(__AIECC__)
#define AIE2P_STRINGIFY(text) #text
#define AIE2P_PRAGMA(text) _Pragma(AIE2P_STRINGIFY(text))
#define AIE_LOOP_UNROLL_FULL AIE2P_PRAGMA(clang loop unroll(full))
#define AIE_LOOP_MIN_ITERATION_COUNT(n) AIE2P_PRAGMA(clang loop min_iteration_count(n))
#else
#define AIE_LOOP_UNROLL_FULL
#define AIE_LOOP_MIN_ITERATION_COUNT(n)
#endif
