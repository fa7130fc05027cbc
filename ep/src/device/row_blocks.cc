#include "ep/src/device/row_blocks.h"

#include <algorithm>
#include <type_traits>

#include "kernels/matmul_nbits/equal_parts.h"

namespace ryzen_npu_gemma::ep {

int RowSymbolOf(const Launch& launch) {
  return std::visit(
      [](const auto& l) {
        using L = std::decay_t<decltype(l)>;
        if constexpr (std::is_same_v<L, MatMul>)
          return l.a.rows;
        else if constexpr (std::is_same_v<L, FlowAttention>)
          return l.k.rows;
        else
          return l.y.rows;
      },
      launch);
}

int BlockSymbol(const Plan& plan) {
  if (plan.launches.empty()) return -1;
  const int symbol = 0;  // that of what the first launch reads
  const auto forgets = [&](const Launch& launch) {
    const auto* f = std::get_if<FlowAttention>(&launch);
    return f && f->k.rows == symbol && (f->present_k_output < 0 || f->present_v_output < 0);
  };
  return std::any_of(plan.launches.begin(), plan.launches.end(), forgets) ? -1 : symbol;
}

RowBlocks::RowBlocks(const std::vector<int64_t>& rows, int symbol, int64_t block_rows)
    : rows_(rows), symbol_(symbol), block_rows_(block_rows) {
  Cut();
}

void RowBlocks::Next() {
  first_ += count_;
  Cut();
}

void RowBlocks::Cut() {
  if (symbol_ >= 0) count_ = kernels::NextPart(rows_[symbol_] - first_, block_rows_);
}

}  // namespace ryzen_npu_gemma::ep
