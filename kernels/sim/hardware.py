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


GIGA = 1e9
CLOCK = 1.8e9  # Hz, AIE clock in turbo and performance mode (amdxdna's DPM table for npu4)


@dataclass(frozen=True)
class Times:
    """Rates (bytes a cycle) and latencies (cycles) of the time model, of the AIE clock.

    [P] published measurement, [I] inference. What a kernel takes comes from its contract, not from here.

    Attributes:
        stream: A stream and a tile's DMA channel. [I] 64 bits: mlir-air feeds 35.7 GB/s through four shim channels
            (fused_decode/README, Strix), more than 32 bits at this clock can carry.
        shim: A shim channel against DDR. [P] the fastest seen: Gemma3-4B at 15.2 tokens/s, 2.43 GB each, through four
            channels (same README).
        ddr_read: Reads of all channels. [P] The best that an open design is known to sustain over whole tokens:
            Llama-3.2-3B, 24.45 tokens/s (same README), 2.008 GB of 4-bit weights each (28 layers, head; 0.625 B), on
            Strix. Its dispatch and stalls are inside, so DDR gives a little more: xdna-engine measured 52.7 GB/s with
            8 columns that only read (2026-08, Strix); the paper's 4B decode implies 47 on Krackan.
        ddr_write: Writes of all channels. [I] as reads.
        ddr: Reads and writes together. [P] 66.6 GB/s, mlir-aie's memcpy (pull request 2559, Strix; xdna-engine: 67.6).
        ddr_burst: Bytes; a shorter run of neighbours costs a whole burst. [P] IRON saw about 10 GB/s with 16-byte runs.
        ddr_latency: From a transfer's start to its first words. [I] 500 to 1000 cycles (xdna-emu against NPU1 traces).
        descriptor: Between two descriptors of a tile's channel: set-up 4, chaining 2, lock in and out 2, memory 5.
            [I] xdna-emu, checked there against silicon.
        hop: A switchbox. [P] AM020 gives 4 for a stream from tile to tile.
        lock: A core's acquire or release, in instructions. [I]
        call: Entering and leaving a kernel. [I]
        bundles_per_slot: What a compiler makes of a contract's cycles, which count the busiest issue slot. [P] the
            body of mlir-air's Q4 kernel is 140 bundles under Peano, 142 under chess (fused_decode/README); the same
            code needs 94 of its busiest slot.
        loop: A round of a loop in the core function. [I]
        scalar_access: A load or store of one element by the core function itself. [I] a lower bound
        command: A command of the runtime sequence. [P] 0.2 us a set_lock (IRON).
        register_write: A run-time parameter. [P] 66 ns a word and core (IRON: 2.06 us a word for 32 cores).
    """

    stream: float = 8.0
    shim: float = 15.2 * 2.43 / 4 * GIGA / CLOCK
    ddr_read: float = 24.45 * 2.008 * GIGA / CLOCK
    ddr_write: float = 24.45 * 2.008 * GIGA / CLOCK
    ddr: float = 66.6 * GIGA / CLOCK
    ddr_burst: int = 64
    ddr_latency: float = 750.0
    descriptor: float = 13.0
    hop: float = 4.0
    lock: float = 5.0
    call: float = 10.0
    bundles_per_slot: float = 140 / 94
    loop: float = 2.0
    scalar_access: float = 1.0
    command: float = 0.2e-6 * CLOCK
    register_write: float = 66e-9 * CLOCK

    def command_cycles(self, kind: str) -> float:
        """Of a command of the sequence. A push is three: descriptor, address, queue; freeing one costs nothing."""
        costs = {"push": 3 * self.command, "await": self.command, "lock": self.command, "rtp": self.register_write}
        return costs.get(kind, 0.0)


TIMES = Times()
