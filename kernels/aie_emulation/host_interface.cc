// What the host library exports beside the kernels: the emulated core's counters and its reset (per thread).
#include "kernels/aie_emulation/core.h"

#define AIE_EMULATION_EXPORT extern "C" __attribute__((visibility("default")))

AIE_EMULATION_EXPORT void aie_emulation_reset_core() { aie_emulation::ThisCore() = {}; }

AIE_EMULATION_EXPORT void aie_emulation_reset_counters() { aie_emulation::ThisCore().counters = {}; }

AIE_EMULATION_EXPORT void aie_emulation_counters(aie_emulation::Counters* counters) {
  *counters = aie_emulation::ThisCore().counters;
}

AIE_EMULATION_EXPORT uint64_t aie_emulation_cycles() { return aie_emulation::ThisCore().counters.Cycles(); }

// The rounding mode that the kernels left behind: aie::rounding_mode.
AIE_EMULATION_EXPORT uint32_t aie_emulation_rounding() { return static_cast<uint32_t>(aie::get_rounding()); }
