"""Designs import `aie`: mlir-aie's, or the simulator's."""

from kernels.sim import provide_aie

provide_aie()
