"""What the designs would do on silicon, by the simulator's time model alone, beside the paper's figures."""

from ..sim import provide_aie

provide_aie()  # the designs import `aie`: mlir-aie's where it is installed, else the simulator's
