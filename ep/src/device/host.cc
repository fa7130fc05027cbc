#include "ep/src/device/host.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "ep/src/device/host_attention.h"
#include "ep/src/device/host_matmul.h"
#include "ep/src/device/row_chain.h"
#include "ep/src/device/scratch.h"
#include "ep/src/error.h"

namespace ryzen_npu_gemma::ep {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + std::to_string(shape[i]);
  return text + "]";
}

std::vector<std::vector<MemoryRange>> NextWeights(const std::vector<Launch>& launches) {
  std::vector<std::vector<MemoryRange>> next(launches.size());
  for (std::size_t i = launches.size(); i-- > 1;) {
    const auto* product = std::get_if<MatMul>(&launches[i]);
    next[i - 1] = product ? WeightsOf(*product) : next[i];
  }
  return next;
}

}  // namespace

struct HostProgram::Workspace {
  std::vector<Scratch> buffers;
  std::vector<RopeTable> ropes;
  AttentionScratch attention;
  Scratch quantized;
};

// One run: the plan with its rows known, block after block of them, and its buffers at hand.
struct HostProgram::Execution {
  const Plan& plan;
  const std::vector<Stage>& stages;
  const std::vector<std::vector<MemoryRange>>& next_weights;
  RunTensors& tensors;
  Threads& threads;
  Workspace& workspace;
  LaunchTimes* const times;
  std::size_t current = 0;         // launch
  std::vector<int64_t> rows = {};  // by row symbol
  std::vector<int64_t> scalars = {};
  std::optional<RowBlocks> blocks = {};
  const Stage* stage = nullptr;
  std::vector<RowStep> chain = {};  // of the stage

  // What a run is told by its inputs; all checks that need no launch.
  void Prepare(int block_symbol, int64_t block_rows) {
    for (const RowSymbol& symbol : plan.row_symbols) rows.push_back(symbol.constant);
    for (std::size_t i = 0; i < plan.inputs.size(); ++i) BindRows(static_cast<int>(i));
    for (const Scalar& scalar : plan.scalars) {
      scalars.push_back(Compute(scalar));
      if (scalar.output >= 0) WriteScalar(scalar, scalars.back());
    }
    for (const Launch& launch : plan.launches)
      if (const auto* embed = std::get_if<Embed>(&launch)) CheckIds(*embed);
    blocks.emplace(rows, block_symbol, block_rows);
  }

  void RunBlock() {
    for (std::size_t i = 0; i < plan.buffers.size(); ++i)
      workspace.buffers[i].Reserve<float>(RowsOf(plan.buffers[i]) * plan.buffers[i].width);
    for (std::size_t i = 0; i < plan.ropes.size(); ++i) {
      const Rope& rope = plan.ropes[i];
      FillRopeTable(rope, scalars[rope.past_len] + blocks->first(rope.rows), blocks->count(rope.rows), threads,
                    workspace.ropes[i]);
    }
    for (const Stage& next : stages) {
      if (!blocks->Has(plan.launches[next.begin])) continue;
      stage = &next;
      if (times) times->Begin(stage->begin, StageRows());
      for (current = stage->begin; current < stage->end; ++current) std::visit(*this, plan.launches[current]);
      EndChain();
    }
  }

  int64_t StageRows() const { return blocks->count(RowSymbolOf(plan.launches[stage->begin])); }

  int64_t Compute(const Scalar& scalar) {
    switch (scalar.kind) {
      case Scalar::Kind::kConstant:
        return scalar.value;
      case Scalar::Kind::kInput:
        return ReadScalar(scalar);
      case Scalar::Kind::kDim:
        return ReadDim(scalar);
      case Scalar::Kind::kSub:
        return scalars[scalar.a] - scalars[scalar.b];
      case Scalar::Kind::kEqual:
        return scalars[scalar.a] == scalars[scalar.b];
      case Scalar::Kind::kNot:
        return !scalars[scalar.a];
    }
    return 0;
  }

  int64_t ReadScalar(const Scalar& scalar) {
    const TensorView value = tensors.Input(scalar.a);
    int64_t count = 1;
    for (int64_t dim : value.shape) count *= dim;
    if (count != 1 || value.type != scalar.type)
      throw Error(ErrorCode::kInvalidArgument, "input " + plan.inputs[scalar.a].name + ": found shape " +
                                                   ShapeText(value.shape) + ", needed one number of the model's type");
    return scalar.type == DataType::kBool ? *value.as<bool>() : *value.as<int64_t>();
  }

  int64_t ReadDim(const Scalar& scalar) {
    const std::vector<int64_t> shape = tensors.Input(scalar.a).shape;
    if (scalar.b >= static_cast<int>(shape.size()))
      throw Error(ErrorCode::kInvalidArgument, "input " + plan.inputs[scalar.a].name + ": found shape " +
                                                   ShapeText(shape) + ", needed more than " + std::to_string(scalar.b) +
                                                   " dimensions");
    return shape[static_cast<std::size_t>(scalar.b)];
  }

  void WriteScalar(const Scalar& scalar, int64_t value) {
    void* data = tensors.Output(scalar.output, {1});
    if (scalar.type == DataType::kBool)
      *static_cast<bool*>(data) = value != 0;
    else
      *static_cast<int64_t*>(data) = value;
  }

  // Learns a row symbol from an input, or checks the input against it.
  void BindRows(int index) {
    const PlanInput& input = plan.inputs[index];
    if (input.rows < 0) return;
    const std::vector<int64_t> shape = tensors.Input(index).shape;
    const std::size_t rank = input.role == PlanInput::Role::kIds ? 2 : 3;
    const bool fits = shape.size() == rank && shape[0] == 1 && (rank == 2 || shape[2] == input.width);
    int64_t& known = rows[input.rows];
    if (fits && known < 0) known = shape[1];
    if (fits && shape[1] == 0)
      throw Error(ErrorCode::kInvalidArgument,
                  "input " + input.name + ": found no tokens, shape " + ShapeText(shape) + "; pass at least one");
    if (!fits || shape[1] != known)
      throw Error(ErrorCode::kInvalidArgument, "input " + input.name + ": found shape " + ShapeText(shape) +
                                                   ", needed [1," + (known < 0 ? "rows" : std::to_string(known)) +
                                                   (rank == 3 ? "," + std::to_string(input.width) : "") + "]");
  }

  // The block's rows of an operand: tensors hold those of all blocks, buffers those of one.
  int64_t RowsOf(const Operand& operand) const { return blocks->count(operand.rows); }
  int64_t Offset(const Operand& operand) const { return blocks->first(operand.rows) * operand.width; }

  const float* Read(const Operand& operand) {
    if (operand.place == Operand::Place::kInput) return tensors.Input(operand.index).as<float>() + Offset(operand);
    return Write(operand);
  }

  float* Write(const Operand& operand) {
    if (operand.place == Operand::Place::kOutput)
      return static_cast<float*>(tensors.Output(operand.index, {1, rows[operand.rows], operand.width})) +
             Offset(operand);
    return workspace.buffers[operand.index].Reserve<float>(0);
  }

  // Before the first block: a run that is refused writes no present.
  void CheckIds(const Embed& launch) {
    const int64_t N = launch.w->shape.N;
    const auto* id = tensors.Input(launch.ids_input).as<int64_t>();
    for (int64_t i = 0; i < rows[launch.y.rows]; ++i)
      if (id[i] < 0 || id[i] >= N)
        throw Error(ErrorCode::kInvalidArgument, "input " + plan.inputs[launch.ids_input].name + ": token id " +
                                                     std::to_string(id[i]) + " at position " + std::to_string(i) +
                                                     " is outside of the vocabulary of " + std::to_string(N));
  }

  template <class T>
  Rows<T> RowsAt(T* data, const Operand& operand) const {
    const bool passing = operand.place == Operand::Place::kBuffer &&
                         std::find(stage->passing.begin(), stage->passing.end(), operand.index) != stage->passing.end();
    return {data, operand.width, passing};
  }
  Rows<const float> In(const Operand& operand) { return RowsAt(Read(operand), operand); }
  Rows<float> Out(const Operand& operand) { return RowsAt(Write(operand), operand); }

  void EndChain() {
    if (chain.empty()) return;
    RunChain(chain, StageRows(), threads);
    if (times) {
      times->Done(NameOf(chain));
      times->Begin(stage->end - 1, StageRows());
    }
    chain.clear();
  }

  // Launches that go row by row join the chain; one of another kind ends it.

  void operator()(const Embed& launch) {
    const auto* ids = tensors.Input(launch.ids_input).as<int64_t>() + blocks->first(launch.y.rows);
    chain.push_back({.launch = &launch, .y = Out(launch.y), .ids = ids});
  }
  void operator()(const RmsNorm& launch) {
    chain.push_back({.launch = &launch, .a = In(launch.x), .y = Out(launch.y)});
  }
  void operator()(const Gelu& launch) { chain.push_back({.launch = &launch, .a = In(launch.x), .y = Out(launch.y)}); }
  void operator()(const GeluMul& launch) {
    chain.push_back({.launch = &launch, .a = In(launch.gate), .b = In(launch.up), .y = Out(launch.y)});
  }
  void operator()(const Elementwise& launch) {
    chain.push_back({.launch = &launch, .a = In(launch.a), .b = In(launch.b), .y = Out(launch.y)});
  }

  void operator()(const MatMul& launch) {
    const int64_t M = RowsOf(launch.a);
    const Rows<const float> a = In(launch.a);
    const ProductInput input = OpenProductInput(launch, plan.accuracy, a.data, M, workspace.quantized);
    if (plan.accuracy == Accuracy::kFast) chain.push_back({.launch = &launch, .a = a, .quantized = input});
    EndChain();
    std::vector<float*> y;
    for (const Operand& operand : launch.y) y.push_back(Write(operand));
    RunMatMul(launch, input, M, y, next_weights[current], threads, times);
  }

  void operator()(const FlowAttention& launch) {
    EndChain();
    const int symbol = launch.k.rows;
    const AttentionCall call{scalars[launch.past_len],        scalars[launch.shared] != 0, blocks->total(symbol),
                             blocks->first(symbol),           blocks->count(symbol),       RowsOf(launch.q),
                             plan.accuracy == Accuracy::kFast};
    RunAttention(launch, call, Read(launch.q), Read(launch.k), Read(launch.v), Write(launch.y),
                 workspace.ropes[launch.rope], tensors, threads, workspace.attention, times);
  }

  void operator()(const LastRow& launch) {
    EndChain();
    const int64_t count = RowsOf(launch.x);
    std::memcpy(Write(launch.y), Read(launch.x) + (count - 1) * launch.x.width,
                sizeof(float) * static_cast<std::size_t>(launch.x.width));
    if (times) times->Done("last row");
  }
};

HostProgram::HostProgram(Plan plan, int64_t block_rows)
    : plan_(std::move(plan)),
      stages_(StagesOf(plan_)),
      next_weights_(NextWeights(plan_.launches)),
      block_rows_(block_rows),
      block_symbol_(BlockSymbol(plan_)) {}
HostProgram::~HostProgram() = default;

void HostProgram::Run(RunTensors& tensors, Threads& threads, LaunchTimes* times) {
  std::unique_ptr<Workspace> workspace = TakeWorkspace();
  Execution execution{plan_, stages_, next_weights_, tensors, threads, *workspace, times};
  execution.Prepare(block_symbol_, block_rows_);
  for (;; execution.blocks->Next()) {
    execution.RunBlock();
    if (execution.blocks->last()) break;
  }
  ReturnWorkspace(std::move(workspace));
}

std::unique_ptr<HostProgram::Workspace> HostProgram::TakeWorkspace() {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto workspace = std::move(idle_.back());
      idle_.pop_back();
      return workspace;
    }
  }
  auto workspace = std::make_unique<Workspace>();
  workspace->buffers.resize(plan_.buffers.size());
  workspace->ropes.resize(plan_.ropes.size());
  return workspace;
}

void HostProgram::ReturnWorkspace(std::unique_ptr<Workspace> workspace) {
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(workspace));
}

}  // namespace ryzen_npu_gemma::ep
