#include "ep/src/device/stages.h"

#include <algorithm>

#include "ep/src/device/row_blocks.h"

namespace ryzen_npu_gemma::ep {
namespace {

struct Access {
  std::vector<Operand> reads, writes;
};

Access AccessOf(const Launch& launch) {
  struct {
    Access operator()(const Embed& l) const { return {{}, {l.y}}; }
    Access operator()(const RmsNorm& l) const { return {{l.x}, {l.y}}; }
    Access operator()(const MatMul& l) const { return {{l.a}, l.y}; }
    Access operator()(const FlowAttention& l) const { return {{l.q, l.k, l.v}, {l.y}}; }
    Access operator()(const Gelu& l) const { return {{l.x}, {l.y}}; }
    Access operator()(const GeluMul& l) const { return {{l.gate, l.up}, {l.y}}; }
    Access operator()(const Elementwise& l) const { return {{l.a, l.b}, {l.y}}; }
    Access operator()(const LastRow& l) const { return {{l.x}, {l.y}}; }
  } access;
  return std::visit(access, launch);
}

bool GoesByRow(const Launch& launch) {
  return std::holds_alternative<Embed>(launch) || std::holds_alternative<RmsNorm>(launch) ||
         std::holds_alternative<Gelu>(launch) || std::holds_alternative<GeluMul>(launch) ||
         std::holds_alternative<Elementwise>(launch);
}

bool Holds(const std::vector<Operand>& operands, int buffer) {
  return std::any_of(operands.begin(), operands.end(),
                     [&](const Operand& o) { return o.place == Operand::Place::kBuffer && o.index == buffer; });
}

// Whether the first of these launches that touches the buffer reads it.
bool IsRead(const std::vector<Access>& launches, std::size_t begin, std::size_t end, int buffer) {
  for (std::size_t i = begin; i < end; ++i) {
    if (Holds(launches[i].reads, buffer)) return true;
    if (Holds(launches[i].writes, buffer)) return false;
  }
  return false;
}

}  // namespace

std::vector<Stage> StagesOf(const Plan& plan) {
  const std::size_t count = plan.launches.size();
  std::vector<Stage> stages;
  for (std::size_t i = 0; i < count; ++i) {
    const bool joins =
        i > 0 && GoesByRow(plan.launches[i - 1]) && RowSymbolOf(plan.launches[i - 1]) == RowSymbolOf(plan.launches[i]);
    if (!joins) stages.push_back({i, i, {}});
    stages.back().end = i + 1;
  }

  std::vector<Access> launches;
  for (const Launch& launch : plan.launches) launches.push_back(AccessOf(launch));
  for (Stage& stage : stages) {
    // The chain's end: a product is in it with what it reads, when that is quantised, and not with what it writes.
    std::size_t end = stage.end;
    const Launch& last = plan.launches[stage.end - 1];
    const bool quantizes = std::holds_alternative<MatMul>(last) && plan.accuracy == Accuracy::kFast;
    if (!GoesByRow(last) && !quantizes) --end;
    for (std::size_t i = stage.begin; i < end; ++i) {
      if (!GoesByRow(plan.launches[i])) continue;
      const Operand& y = launches[i].writes[0];
      if (y.place == Operand::Place::kBuffer && !IsRead(launches, stage.begin, end, y.index) &&
          !IsRead(launches, end, count, y.index))
        stage.passing.push_back(y.index);
    }
  }
  return stages;
}

}  // namespace ryzen_npu_gemma::ep
