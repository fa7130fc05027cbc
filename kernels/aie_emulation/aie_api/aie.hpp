// Host emulation of the part of AMD's AIE API that AIE2P language-model kernels use: the same kernel source compiles
// with Peano for the core and with a host compiler through this header. Own code, written to the documentation in
// Xilinx/aie_api (state of 2025). "AIE API, Page, entry:" cites the page of that documentation by its title, or the
// class by its name, for what follows up to a blank line; quotation marks hold its words; file names are that
// repository's. "Assumed" is what it does not say. "Emulation:" is what it does not have. What is not here does not
// compile.
#pragma once

#ifndef AIE_HOST_EMULATION
#define AIE_HOST_EMULATION 1
#endif
#define __AIE_ARCH__ 21

#include "kernels/aie_emulation/elementary.h"
#include "kernels/aie_emulation/intrinsics.h"
