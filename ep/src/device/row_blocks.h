// A long prompt goes through the launches in blocks of rows, so that a run needs no more memory for many tokens than
// for one block, and what a launch writes is still in the cache when the next one reads it.
#pragma once

#include <cstdint>
#include <vector>

#include "ep/src/plan.h"

namespace ryzen_npu_gemma::ep {

// Rows of a block, at most. 2048 tokens of 270M in blocks of 256, 512, 1024, or whole: `fast` 3285, 3400, 3550, 3610
// tokens/s, `exact` no difference; the process's peak is 342, 357, 385, 439 MiB.
inline constexpr int64_t kBlockRows = 512;

// The symbol of a launch's rows; all its operands have it, but what LastRow reads, and an attention's q and y when
// only its last row is asked for (last_rows.h): its k and v count, which all blocks have.
int RowSymbolOf(const Launch& launch);

// The row symbol that a plan may be cut along, or -1 when its launches must see all rows at once: an attention whose
// present is not kept could not tell a later block of an earlier one's keys.
int BlockSymbol(const Plan& plan);

// The rows of a run, by symbol: of one symbol a block of them, of the others all in the last block.
class RowBlocks {
 public:
  // rows: by symbol;  symbol: the one that is cut, or -1
  RowBlocks(const std::vector<int64_t>& rows, int symbol, int64_t block_rows);

  int64_t first(int symbol) const { return symbol == symbol_ ? first_ : 0; }
  int64_t count(int symbol) const { return symbol == symbol_ ? count_ : last() ? rows_[symbol] : 0; }
  int64_t total(int symbol) const { return rows_[symbol]; }

  bool last() const { return symbol_ < 0 || first_ + count_ == rows_[symbol_]; }
  // Whether the block has work for this launch: what is not cut, the last row's head for one, waits for the last block.
  bool Has(const Launch& launch) const { return last() || RowSymbolOf(launch) == symbol_; }
  void Next();

 private:
  void Cut();

  const std::vector<int64_t>& rows_;
  const int symbol_;
  const int64_t block_rows_;
  int64_t first_ = 0, count_ = 0;
};

}  // namespace ryzen_npu_gemma::ep
