// Host emulation of the part of AMD's AIE API that AIE2P language-model kernels use: the same kernel source compiles
// with Peano for the core and with a host compiler through this header. Own code, written to the documentation in
// Xilinx/aie_api (file names in the comments are that repository's). What is not here does not compile; nothing is
// approximated silently: modelled, not documented behaviour is said where it is (exp2, tanh, inv, invsqrt, sums inside
// one matrix instruction).
#pragma once

#ifndef AIE_HOST_EMULATION
#define AIE_HOST_EMULATION 1
#endif
#define __AIE_ARCH__ 21

#include "kernels/aie_emulation/elementary.h"
#include "kernels/aie_emulation/intrinsics.h"
