"""The one set of facts about XDNA2 (Strix, Strix Halo, Krackan) that the simulator uses, each with its source.

Limits come from mlir-aie's device model (NPU2: AIETargetModel.h, verifiers of AIEDialect.cpp and AIEXDialect.cpp,
spring 2026). Times are measurements that others published, or inferences marked as such; nothing is fitted to a design.
"""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = 8
ROWS = 6

MEMORY_BYTES = {"core": 64 * 1024, "mem": 512 * 1024}
DEFAULT_STACK = 1024  # Worker(stack_size=None): CoreOp's default
CHANNELS = {"core": 2, "mem": 6, "shim": 2}  # in each direction
DESCRIPTORS = {"core": 16, "mem": 48, "shim": 16}
DESCRIPTORS_PER_PARITY = 24  # mem tile: even channels reach the first 24 descriptors, odd ones the others
NEIGHBOUR_CHANNELS = 4  # mem tile: only channels 0 to 3 reach a neighbour's memory
LOCKS = {"core": 16, "mem": 64, "shim": 16}
MAX_LOCK = 63
DIMENSIONS = {"core": 3, "mem": 4, "shim": 4}  # of a transfer; the shim's outermost is its iteration
WRAP_BITS = {"core": 8, "mem": 10, "shim": 10}  # sizes of all dimensions but the outermost, the innermost in words
STEP_BITS = {"core": 13, "mem": 17, "shim": 20}  # strides, in words
COMPILER_MAX_SIZE = 512  # upstream's verifier refuses a larger size in dims_to_stream / dims_from_stream
ITERATION_BITS = 6  # shim: iterations with a stride
MAX_REPEAT = 256  # iterations without
WORD = 4  # bytes; every size, stride and offset is a multiple
QUEUE = 4  # transfers on a shim channel, the running one included; one more is dropped, and the design hangs:
#            mlir-air pull request 1826 measured the boundary on silicon, mlir-aie pull request 3734 names the cause

# Streams that may cross the border between two switchboxes, by direction (NPU2's switchbox tables).
PORTS_NORTH, PORTS_SOUTH, PORTS_SIDE = 6, 4, 4


@dataclass(frozen=True)
class Times:
    """Rates and latencies of the time model, in cycles of the AIE clock."""

    hertz: float = 1.8e9
    stream_bytes_per_cycle: float = 8.0
    shim_bytes_per_cycle: float = 8.9e9 / 1.8e9
    ddr_read_bytes_per_cycle: float = 52e9 / 1.8e9
    ddr_write_bytes_per_cycle: float = 52e9 / 1.8e9
    ddr_bytes_per_cycle: float = 66.6e9 / 1.8e9
    ddr_burst: int = 64
    ddr_latency_cycles: float = 540.0
    descriptor_cycles: float = 8.0
    hop_cycles: float = 4.0
    lock_cycles: float = 4.0
    call_cycles: float = 10.0
    loop_cycles: float = 2.0
    scalar_access_cycles: float = 1.0
    push_cycles: float = 900.0
    await_cycles: float = 360.0
    rtp_cycles: float = 119.0
    lock_write_cycles: float = 360.0

    def command_cycles(self, kind: str) -> float:
        """Of a command of the runtime sequence."""
        return {
            "push": self.push_cycles,
            "await": self.await_cycles,
            "rtp": self.rtp_cycles,
            "lock": self.lock_write_cycles,
        }.get(kind, 0.0)


TIMES = Times()
