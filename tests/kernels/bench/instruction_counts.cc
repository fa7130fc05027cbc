// Runs every row of every table once on a small fixed shape, each between two marks that callgrind makes a count of:
// times are noisy, instructions are not. tests/kernels/instruction_counts_test.py compares them with a committed table.
//
//   valgrind --tool=callgrind --collect-atstart=no build/dev/tests/kernels/bench/instruction_counts
//
// Prints the toolchain (the references call the C library's tanh and exp) and the name of each case, in the order of
// callgrind's dumps.
#include <gnu/libc-version.h>
#include <valgrind/callgrind.h>

#include <cstdio>
#include <string>

#include "tests/kernels/bench/operands.h"
#include "tests/kernels/bench/tables.h"

namespace ryzen_npu_gemma::kernels {
namespace {

template <typename Fn, std::size_t kRows, typename Operands>
void Count(const KernelRow<Fn> (&rows)[kRows], const char* shape, Operands& operands) {
  for (const KernelRow<Fn>& row : rows) {
    const std::string name = std::string(row.name) + " " + shape;
    if (!row.supported()) {
      std::printf("unsupported\t%s\n", name.c_str());
      continue;
    }
    operands.Run(row.fn);  // lazy binding and first touches are not the kernel's
    CALLGRIND_ZERO_STATS;
    CALLGRIND_TOGGLE_COLLECT;
    operands.Run(row.fn);
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(name.c_str());
    std::printf("counted\t%s\n", name.c_str());
  }
}

void CountAll() {
  for (const int bits : {4, 8}) {
    for (const int64_t rows : {1, 9}) {
      const NBitsShape shape_NK{64, 640, bits};
      MatMulOperands operands(shape_NK, rows, 1), fast_operands(FastShape(shape_NK), rows, 1);
      const std::string shape = std::to_string(rows) + "x64x640 " + std::to_string(bits) + " bits";
      Count(kMatMulNBitsRows, shape.c_str(), operands);
      Count(kMatMulNBitsInt8Rows, shape.c_str(), fast_operands);
    }
  }
  AttentionOperands decode(1, 4, 300), prefill(8, 4, 300);
  Count(kFlowAccumulateRows, "1 position, 300 keys", decode);
  Count(kFlowAccumulateRows, "8 positions, 300 keys", prefill);
  RowOperands row(1, 1152), head(4, kHeadDim);
  Count(kElementwiseRows, "1x1152", row);
  Count(kRmsNormRows, "1x1152", row);
  Count(kGeluMulRows, "1x1152", row);
  Count(kQuantizeRowsRows, "1x1152", row);
  Count(kKvStoreRows, "1x1152", row);
  Count(kQkNormRopeRows, "4x256", head);
}

}  // namespace
}  // namespace ryzen_npu_gemma::kernels

int main() {
#ifdef __clang__
  const char* compiler = "clang";
  const int version = __clang_major__;
#else
  const char* compiler = "gcc";
  const int version = __GNUC__;
#endif
  std::printf("toolchain\t%s %d, glibc %s\n", compiler, version, gnu_get_libc_version());
  ryzen_npu_gemma::kernels::CountAll();
}
