#include "ep/src/plan.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <tuple>

#include "ep/src/error.h"
#include "ep/src/last_rows.h"

namespace ryzen_npu_gemma::ep {
namespace {

class Builder {
 public:
  Builder(const Graph& graph, const Policy& policy, const std::vector<std::string>& input_names,
          const std::vector<std::string>& output_names, WeightStore& weights, Accuracy accuracy)
      : graph_(graph), activations_(NeededRows(graph, policy.activations, output_names)), weights_(weights) {
    plan_.accuracy = accuracy;
    for (std::size_t i = 0; i < input_names.size(); ++i) input_index_[input_names[i]] = static_cast<int>(i);
    for (std::size_t i = 0; i < output_names.size(); ++i) output_index_[output_names[i]] = static_cast<int>(i);
    for (const auto& name : input_names) plan_.inputs.push_back({name, DataType::kOther, PlanInput::Role::kOther});
    plan_.outputs = output_names;
    operands_.resize(graph.values.size());
    remaining_uses_.resize(graph.values.size());
    for (std::size_t i = 0; i < graph.values.size(); ++i)
      remaining_uses_[i] = static_cast<int>(graph.values[i].consumers.size());
    done_.resize(graph.nodes.size());
  }

  Plan Build() {
    for (int i = 0; i < static_cast<int>(graph_.nodes.size()); ++i) {
      if (!done_[i]) Lower(i);
      for (int input : graph_.nodes[i].inputs) Release(input);
    }
    return std::move(plan_);
  }

 private:
  // In place: a temporary variant makes GCC 12 warn of uninitialised members that nobody reads.
  template <class L>
  void Emit(std::string name, L launch) {
    plan_.launch_names.push_back(std::move(name));
    plan_.launches.emplace_back(std::in_place_type<L>, std::move(launch));
  }

  const Value& ValueOf(int value) const { return graph_.values.at(value); }

  void Lower(int index) {
    const Node& n = graph_.nodes[index];
    if (n.op_type == "EmbedNBits") {
      Embed launch;
      launch.ids_input = BindInput(n.inputs[0], PlanInput::Role::kIds);
      launch.w = Weight(n);
      launch.scale = AttributeOr(n, "scale", 1.0f);
      launch.y = Define(n.outputs[0]);
      Emit(n.name, std::move(launch));
    } else if (n.op_type == "RMSNormalization") {
      Emit(n.name, RmsNorm{ReadFor(n, 0), Floats(n.inputs[1]), AttributeOr(n, "epsilon", 1e-5f), Define(n.outputs[0])});
    } else if (n.op_type == "MatMulNBits") {
      LowerMatMul(index);
    } else if (n.op_type == "FlowQKV" || n.op_type == "FlowKV") {
      LowerFlow(n);
    } else if (n.op_type == "Gelu") {
      LowerGelu(index);
    } else if (n.op_type == "Add" || n.op_type == "Mul") {
      Emit(n.name, Elementwise{n.op_type == "Mul", ReadFor(n, 0), ReadFor(n, 1), Define(n.outputs[0])});
    } else if (n.op_type == "Gather") {
      Emit(n.name, LastRow{Read(n.inputs[0]), Define(n.outputs[0])});
    } else if (n.op_type == "Shape") {
      const int dim = static_cast<int>(AttributeOr<int64_t>(n, "start", 0));
      DefineScalar(n, {Scalar::Kind::kDim, BindInput(n.inputs[0], PlanInput::Role::kOther), dim, DataType::kInt64});
    } else if (n.op_type == "Sub") {
      DefineScalar(n, {Scalar::Kind::kSub, ReadScalar(n.inputs[0]), ReadScalar(n.inputs[1]), DataType::kInt64});
    } else if (n.op_type == "Equal") {
      DefineScalar(n, {Scalar::Kind::kEqual, ReadScalar(n.inputs[0]), ReadScalar(n.inputs[1]), DataType::kBool});
    } else if (n.op_type == "Not") {
      DefineScalar(n, {Scalar::Kind::kNot, ReadScalar(n.inputs[0]), -1, DataType::kBool});
    } else {
      throw Error(ErrorCode::kFail,
                  "plan: node " + n.name + " of type " + n.op_type + " was claimed but has no lowering");
    }
  }

  // The MatMulNBits nodes that read the same rows of one activation (q, k, v; gate, up) become one launch.
  void LowerMatMul(int index) {
    const int a = graph_.nodes[index].inputs[0];
    MatMul launch{ReadFor(graph_.nodes[index], 0), {}, {}};
    std::string name;
    for (int i : ConsumersFrom(a, index)) {
      const Node& n = graph_.nodes[i];
      if (n.op_type != "MatMulNBits" || n.inputs[0] != a || Shape(n.outputs[0]).rows != launch.a.rows) continue;
      launch.w.push_back(Weight(n));
      launch.y.push_back(Define(n.outputs[0]));
      done_[i] = true;
      if (!name.empty()) name.append("+");
      name.append(name.empty() ? n.name : n.name.substr(n.name.rfind('.') + 1));
    }
    Emit(std::move(name), std::move(launch));
  }

  // gelu(gate) * up is one launch when nothing else reads the gelu; it then runs where the Mul stands.
  void LowerGelu(int index) {
    const Node& n = graph_.nodes[index];
    const Value& y = ValueOf(n.outputs[0]);
    if (!output_index_.contains(y.name) && y.consumers.size() == 1) {
      const Node& mul = graph_.nodes[y.consumers[0]];
      const std::size_t up = mul.inputs[0] == n.outputs[0] ? 1 : 0;
      if (mul.op_type == "Mul" && IsComputed(mul.inputs[up])) {
        Emit(n.name, GeluMul{ReadFor(n, 0), ReadFor(mul, up), Define(mul.outputs[0])});
        done_[y.consumers[0]] = true;
        return;
      }
    }
    Emit(n.name, Gelu{ReadFor(n, 0), Define(n.outputs[0])});
  }

  void LowerFlow(const Node& n) {
    FlowAttention f;
    f.q = ReadFor(n, 0);
    f.k = Read(n.inputs[1]);
    f.v = Read(n.inputs[2]);
    f.past_k_input = BindInput(n.inputs[3], PlanInput::Role::kOther);
    f.past_v_input = BindInput(n.inputs[4], PlanInput::Role::kOther);
    f.q_norm = Floats(n.inputs[5]);
    f.k_norm = Floats(n.inputs[6]);
    f.past_len = ReadScalar(n.inputs[7]);
    f.shared = ReadScalar(n.inputs[8]);
    f.present_k_output = Output(n.outputs[1]);
    f.present_v_output = Output(n.outputs[2]);
    f.num_heads = AttributeOr<int64_t>(n, "num_heads", 0);
    f.kv_num_heads = AttributeOr<int64_t>(n, "kv_num_heads", 0);
    f.head_dim = static_cast<int64_t>(f.q_norm.size());
    f.window = AttributeOr<int64_t>(n, "window", 0);
    f.scale = AttributeOr(n, "scale", 0.0f);
    f.eps = AttributeOr(n, "eps", 0.0f);
    f.rope = RopeIndex(
        {AttributeOr(n, "rope_theta", 0.0f), AttributeOr(n, "rope_factor", 1.0f), f.head_dim, f.past_len, f.k.rows});
    f.kv_type = ValueOf(n.inputs[3]).type;
    f.name = n.name;
    f.y = Define(n.outputs[0]);
    Emit(n.name, std::move(f));
  }

  std::vector<int> ConsumersFrom(int value, int first) const {
    std::vector<int> nodes = ValueOf(value).consumers;
    std::erase_if(nodes, [&](int i) { return i < first || done_[i]; });
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    return nodes;
  }

  bool IsComputed(int value) const {
    return operands_[value].has_value() || input_index_.contains(ValueOf(value).name);
  }

  // ---- inputs and outputs of the region

  int BindInput(int value, PlanInput::Role role) {
    const Value& v = ValueOf(value);
    const auto it = input_index_.find(v.name);
    if (it == input_index_.end())
      throw Error(ErrorCode::kFail, "plan: value " + v.name + " is not an input of the region");
    PlanInput& input = plan_.inputs[it->second];
    input.type = v.type;
    if (role != PlanInput::Role::kOther) input.role = role;
    if (role == PlanInput::Role::kIds) input.rows = RowsIndex(RowsKey(v, v.shape.at(1)));
    return it->second;
  }

  int Output(int value) const {
    const auto it = output_index_.find(ValueOf(value).name);
    return it == output_index_.end() ? -1 : it->second;
  }

  // ---- scalars

  int ReadScalar(int value) {
    if (const auto it = scalars_.find(value); it != scalars_.end()) return it->second;
    const Value& v = ValueOf(value);
    if (!v.is_constant)
      return AddScalar(value, {Scalar::Kind::kInput, BindInput(value, PlanInput::Role::kOther), -1, v.type});
    Scalar constant{Scalar::Kind::kConstant, -1, -1, v.type};
    if (v.type == DataType::kBool)
      constant.value = *static_cast<const bool*>(v.constant.data);
    else
      std::memcpy(&constant.value, v.constant.data, sizeof(constant.value));
    return AddScalar(value, constant);
  }

  void DefineScalar(const Node& n, Scalar scalar) {
    scalar.output = Output(n.outputs[0]);
    AddScalar(n.outputs[0], scalar);
  }

  int AddScalar(int value, const Scalar& scalar) {
    plan_.scalars.push_back(scalar);
    return scalars_[value] = static_cast<int>(plan_.scalars.size()) - 1;
  }

  // ---- activations

  Operand Read(int value) {
    if (operands_[value]) return *operands_[value];
    Operand operand = Shape(value);
    operand.place = Operand::Place::kInput;
    operand.index = BindInput(value, PlanInput::Role::kActivation);
    plan_.inputs[operand.index].rows = operand.rows;
    plan_.inputs[operand.index].width = operand.width;
    operands_[value] = operand;
    return operand;
  }

  // Of an input of the node the rows that its result is made of: all, or a copy of the last.
  Operand ReadFor(const Node& n, std::size_t input) {
    const int value = n.inputs[input];
    const Operand x = Read(value);
    const int rows = Shape(n.outputs[0]).rows;
    if (x.rows == rows) return x;
    if (const auto it = last_rows_.find(value); it != last_rows_.end()) return it->second;
    Operand last{Operand::Place::kBuffer, 0, rows, x.width};
    last.index = TakeBuffer(last);
    Emit(ValueOf(value).name, LastRow{x, last});
    return last_rows_[value] = last;
  }

  Operand Define(int value) {
    Operand operand = Shape(value);
    if (const int output = Output(value); output >= 0) {
      operand.place = Operand::Place::kOutput;
      operand.index = output;
    } else {
      operand.place = Operand::Place::kBuffer;
      operand.index = TakeBuffer(operand);
    }
    operands_[value] = operand;
    return operand;
  }

  Operand Shape(int value) {
    const Value& v = ValueOf(value);
    const auto it = activations_.find(v.name);
    if (it == activations_.end()) throw Error(ErrorCode::kFail, "plan: value " + v.name + " has no known shape");
    return {Operand::Place::kBuffer, 0, RowsIndex(it->second.rows), it->second.width};
  }

  int TakeBuffer(const Operand& like) {
    for (std::size_t i = 0; i < free_.size(); ++i) {
      const Operand& buffer = plan_.buffers[free_[i]];
      if (buffer.rows != like.rows || buffer.width != like.width) continue;
      const int index = free_[i];
      free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
      return index;
    }
    plan_.buffers.push_back(like);
    return static_cast<int>(plan_.buffers.size()) - 1;
  }

  // A buffer is free again when the node that is its value's last reader, in the graph's order, has been passed.
  // Launches that were moved forward (grouped matmuls, GeGLU) only read earlier than that.
  void Release(int value) {
    if (value < 0 || --remaining_uses_[value] > 0 || !operands_[value]) return;
    if (operands_[value]->place == Operand::Place::kBuffer) free_.push_back(operands_[value]->index);
    if (const auto it = last_rows_.find(value); it != last_rows_.end()) free_.push_back(it->second.index);
  }

  int RowsIndex(const std::string& name) {
    auto& symbols = plan_.row_symbols;
    const auto it = std::find_if(symbols.begin(), symbols.end(), [&](const RowSymbol& s) { return s.name == name; });
    if (it != symbols.end()) return static_cast<int>(it - symbols.begin());
    symbols.push_back({name, name.starts_with('=') ? std::stoll(name.substr(1)) : -1});
    return static_cast<int>(symbols.size()) - 1;
  }

  int RopeIndex(const Rope& rope) {
    const auto it = std::find(plan_.ropes.begin(), plan_.ropes.end(), rope);
    if (it != plan_.ropes.end()) return static_cast<int>(it - plan_.ropes.begin());
    plan_.ropes.push_back(rope);
    return static_cast<int>(plan_.ropes.size()) - 1;
  }

  // ---- constants

  std::vector<float> Floats(int value) const {
    const Value& v = ValueOf(value);
    if (!v.constant.data || v.constant.bytes % sizeof(float))
      throw Error(ErrorCode::kFail, "plan: constant " + v.name + " has no float data");
    std::vector<float> floats(v.constant.bytes / sizeof(float));
    std::memcpy(floats.data(), v.constant.data, v.constant.bytes);
    return floats;
  }

  std::shared_ptr<const PackedMatrix> Weight(const Node& n) {
    const kernels::NBitsShape file{AttributeOr<int64_t>(n, "N", 0), AttributeOr<int64_t>(n, "K", 0),
                                   static_cast<int>(AttributeOr<int64_t>(n, "bits", 4))};
    const kernels::NBitsShape shape = plan_.accuracy == Accuracy::kFast ? kernels::FastShape(file) : file;
    // By shape too: blocks are padded, so the same bytes are valid as matrices of several shapes.
    auto& matrix = matrices_[{n.inputs[1], shape.N, shape.K, shape.bits}];
    if (!matrix) matrix = weights_.Get(ValueOf(n.inputs[1]), shape);
    return matrix;
  }

  const Graph& graph_;
  const Activations activations_;
  WeightStore& weights_;
  Plan plan_;
  std::map<std::string, int, std::less<>> input_index_, output_index_;
  std::vector<std::optional<Operand>> operands_;  // by value
  std::map<int, Operand> last_rows_;              // by value: a copy of its last row, where one was needed
  std::vector<int> remaining_uses_;               // by value
  std::vector<bool> done_;                        // by node
  std::vector<int> free_;                         // buffers
  std::map<int, int> scalars_;                    // by value
  std::map<std::tuple<int, int64_t, int64_t, int>, std::shared_ptr<const PackedMatrix>> matrices_;
};

}  // namespace

Plan BuildPlan(const Graph& graph, const Policy& policy, const std::vector<std::string>& input_names,
               const std::vector<std::string>& output_names, WeightStore& weights, Accuracy accuracy) {
  return Builder(graph, policy, input_names, output_names, weights, accuracy).Build();
}

}  // namespace ryzen_npu_gemma::ep
