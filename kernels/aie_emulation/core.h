// State of one emulated AIE2P core: its rounding and saturation registers, and the issue slots that its kernels used.
//
// One bundle of the core has seven slots: lda, ldb, st, alu, mv, vec, lng (llvm-aie, AIE2PSlots.td). Which slot an
// instruction takes is in llvm-aie's AIE2PGenInstrInfo.td: loads and unpack take lda/ldb; stores, pack and every
// narrowing conversion (srs, fp32 -> bf16, fp32 -> bfp16) st; shuffles, broadcasts, element moves, integer add,
// compare, select, widening conversions (ups), exp2 and tanh mv; multiplication and accumulator add vec; inv, invsqrt,
// sqrt alu. Pointer and loop arithmetic, register moves, latencies and pipeline fill are not counted: the result is a
// lower bound.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace aie {

// AIE API, aie::rounding_mode: the modes, each with its rule as given there. The numbers are those of the core's crRnd
// register.
enum class rounding_mode : unsigned {
  floor = 0,            // towards -infinity
  ceil = 1,             // towards +infinity
  symmetric_floor = 2,  // towards zero
  symmetric_ceil = 3,   // away from zero
  negative_inf = 8,     // nearest, ties towards -infinity
  positive_inf = 9,     // nearest, ties towards +infinity
  symmetric_zero = 10,  // nearest, ties towards zero
  symmetric_inf = 11,   // nearest, ties away from zero
  conv_even = 12,       // nearest, ties to even
  conv_odd = 13         // nearest, ties to odd
};

// AIE API, aie::saturation_mode: none "allows values to overflow", saturate keeps the type's largest or smallest value,
// symmetric (signed types) keeps limits of the same absolute value. truncate is the deprecated name of saturate.
enum class saturation_mode : unsigned { none = 0, truncate = 1, saturate = 1, symmetric = 3 };

}  // namespace aie

namespace aie_emulation {

// Layout shared with kernels/aie_emulation/host_library.py.
struct Counters {
  uint64_t load;        // lda and ldb: two a cycle
  uint64_t store;       // st
  uint64_t move;        // mv
  uint64_t multiply;    // vec
  uint64_t scalar;      // alu, non-linear functions only
  uint64_t misaligned;  // accesses that the hardware would have truncated to the vector's alignment: bugs of the kernel

  uint64_t Cycles() const { return std::max({(load + 1) / 2, store, move, multiply, scalar}); }
};

struct Core {
  // The AIE API does not document these. Floor: amd/IRON measured it (41 times the error of conv_even in a matmul that
  // sets no mode). No saturation: assumed, the register's value 0 as for rounding.
  aie::rounding_mode rounding = aie::rounding_mode::floor;
  aie::saturation_mode saturation = aie::saturation_mode::none;
  Counters counters{};
};

inline Core& ThisCore() {
  static thread_local Core core;
  return core;
}

// Number of instructions that `bits` of data take at `width` bits an instruction.
constexpr uint64_t Issues(uint64_t bits, uint64_t width = 512) {
  return std::max<uint64_t>(1, (bits + width - 1) / width);
}

inline void CountLoad(uint64_t n) { ThisCore().counters.load += n; }
inline void CountStore(uint64_t n) { ThisCore().counters.store += n; }
inline void CountMove(uint64_t n) { ThisCore().counters.move += n; }
inline void CountMultiply(uint64_t n) { ThisCore().counters.multiply += n; }
inline void CountScalar(uint64_t n) { ThisCore().counters.scalar += n; }

// What the core's headers require of their caller at run time: a kernel that breaks it would compute something else
// there.
inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "aie_emulation: %s\n", what);
  std::abort();
}

// While it lives, nothing is counted if `active`: for work that the register's first use has been charged for.
class Uncounted {
 public:
  explicit Uncounted(bool active) : active_(active), saved_(ThisCore().counters) {}
  ~Uncounted() {
    if (active_) ThisCore().counters = saved_;
  }
  Uncounted(const Uncounted&) = delete;
  Uncounted& operator=(const Uncounted&) = delete;

 private:
  bool active_;
  Counters saved_;
};

inline void CheckAlignment(const void* pointer, unsigned alignment) {
  if (reinterpret_cast<uintptr_t>(pointer) % alignment == 0) return;
  Core& core = ThisCore();
  if (core.counters.misaligned++ == 0)
    std::fprintf(stderr,
                 "aie_emulation: access to %p is not aligned to %u bytes: the core would truncate the address\n",
                 pointer, alignment);
}

// Where a vector's lanes came from. The core fuses a load with the conversion that follows it (vlda.ups, vlda.conv,
// vldb.unpack) and a narrowing conversion with the store that follows it (vst.srs, vst.conv, vst.push.conv), so the
// second of the pair is free.
enum class Origin : uint8_t { kComputed, kLoaded, kNarrowed };

}  // namespace aie_emulation

namespace aie {

// AIE API, aie::set_rounding, get_rounding, swap_rounding (which returns the mode set before): the mode "used in
// accumulator to vector conversions"; the same three for saturation. Which modes a core starts with is not documented
// there: see Core above.
inline void set_rounding(rounding_mode mode) { aie_emulation::ThisCore().rounding = mode; }
inline rounding_mode get_rounding() { return aie_emulation::ThisCore().rounding; }
inline void set_saturation(saturation_mode mode) { aie_emulation::ThisCore().saturation = mode; }
inline saturation_mode get_saturation() { return aie_emulation::ThisCore().saturation; }
inline rounding_mode swap_rounding(rounding_mode mode) {
  return std::exchange(aie_emulation::ThisCore().rounding, mode);
}
inline saturation_mode swap_saturation(saturation_mode mode) {
  return std::exchange(aie_emulation::ThisCore().saturation, mode);
}

// AIE API, aie::tile: the current tile's state; here its two modes, the same registers as above.
class tile {
 public:
  static tile current() { return {}; }
  void set_rounding(rounding_mode mode) { aie::set_rounding(mode); }
  rounding_mode get_rounding() const { return aie::get_rounding(); }
  void set_saturation(saturation_mode mode) { aie::set_saturation(mode); }
  saturation_mode get_saturation() const { return aie::get_saturation(); }
};

}  // namespace aie
