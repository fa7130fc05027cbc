"""What the host adds to a design's own time; measured by others, pinned here once."""

from __future__ import annotations

# One dispatch through XRT. Pinned by the smallest launch published (RoPE of 8 rows, 83 us: mlir-air's kernel
# registry), less the time that its sequence of commands takes in the simulator (14 us). xrt-smi's own latency test says
# 50 to 52 us.
DISPATCH_SECONDS = 69e-6

# A further launch in the same command list: its dispatch, 44 to 50 us, and another program for the array, 39 us (Strix
# Halo, turbo; IRON).
STEP_SECONDS = 86e-6
