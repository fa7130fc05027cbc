#include "ep/src/policy.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/flow_attention/flow_attention.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::ep {
namespace {

constexpr int64_t kMaxDim = int64_t{1} << 24;  // no matrix side, head count or window is larger than this

// Thrown by a rule that does not hold; caught by Decide.
struct Reject {
  std::string reason;
  std::string value;
};

std::string Str(int64_t v) { return std::to_string(v); }
std::string Str(float v) { return std::to_string(v); }

std::string ShapeText(const Value& value) {
  if (!value.has_shape) return "unknown shape";
  std::string text = "[";
  for (std::size_t i = 0; i < value.shape.size(); ++i) {
    if (i) text += ",";
    const Dim& dim = value.shape[i];
    text += dim.value >= 0 ? Str(dim.value) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

bool IsActivationType(const Value& value) {
  return value.type == DataType::kFloat32 && value.has_shape && value.shape.size() == 3 && value.shape[0].value == 1 &&
         value.shape[2].value > 0;
}

// The facts of one node, read through the rules' eyes: every accessor rejects when the fact is missing.
class NodeRules {
 public:
  NodeRules(const Graph& graph, const Node& node, Policy& policy)
      : graph_(graph), node_(node), activations_(policy.activations), scalars_(policy.scalars) {}

  const Value& Input(std::size_t i, std::string_view what) const {
    if (i >= node_.inputs.size() || node_.inputs[i] < 0)
      throw Reject{std::string(what) + " is missing", "input " + Str(int64_t(i))};
    return graph_.values[node_.inputs[i]];
  }

  Activation ActivationInput(std::size_t i, std::string_view what) {
    const Value& value = Input(i, what);
    if (const auto it = activations_.find(value.name); it != activations_.end()) return it->second;
    if (value.type != DataType::kFloat32) throw Reject{std::string(what) + " is not float32", value.name};
    if (value.is_constant) throw Reject{std::string(what) + " is a constant", value.name};
    if (value.has_shape && value.shape.size() == 3 && value.shape[0].value != 1)
      throw Reject{"batch is not 1", ShapeText(value)};
    if (!IsActivationType(value))
      throw Reject{std::string(what) + " is not [1, rows, width] of known width", ShapeText(value)};
    const Activation activation{RowsKey(value, value.shape[1]), value.shape[2].value};
    activations_[value.name] = activation;
    return activation;
  }

  // One element of `type`, computed by a claimed node or given from outside.
  void ScalarInput(std::size_t i, std::string_view what, DataType type) {
    const Value& value = Input(i, what);
    if (const auto it = scalars_.find(value.name); it != scalars_.end()) {
      if (it->second != type) throw Reject{std::string(what) + " has another type than it needs", value.name};
      return;
    }
    if (value.type != type)
      throw Reject{std::string(what) + (type == DataType::kBool ? " is not bool" : " is not int64"), value.name};
    const std::size_t bytes = type == DataType::kBool ? sizeof(bool) : sizeof(int64_t);
    if (value.is_constant && value.constant.bytes != bytes)
      throw Reject{std::string(what) + " is not one number", ShapeText(value)};
    if (!value.has_shape || value.shape.size() != 1 || value.shape[0].value != 1)
      throw Reject{std::string(what) + " is not one number", ShapeText(value)};
    scalars_[value.name] = type;
  }

  void ScalarOutput(DataType type) { scalars_[graph_.values[node_.outputs.at(0)].name] = type; }

  // A constant float vector; its length.
  int64_t ConstantVector(std::size_t i, std::string_view what) const {
    const Value& value = Input(i, what);
    if (!value.is_constant) throw Reject{std::string(what) + " is not a constant", value.name};
    if (value.type != DataType::kFloat32) throw Reject{std::string(what) + " is not float32", value.name};
    if (value.shape.size() != 1 || value.shape[0].value <= 0)
      throw Reject{std::string(what) + " is not a vector", ShapeText(value)};
    return value.shape[0].value;
  }

  int64_t Int(std::string_view name, int64_t low, int64_t high) const {
    const auto it = node_.attributes.find(name);
    const int64_t* value = it == node_.attributes.end() ? nullptr : std::get_if<int64_t>(&it->second);
    if (!value) throw Reject{"attribute " + std::string(name) + " is missing", ""};
    if (*value < low || *value > high) throw Reject{"attribute " + std::string(name) + " is out of range", Str(*value)};
    return *value;
  }

  float PositiveFloat(std::string_view name, float fallback) const {
    const float value = AttributeOr(node_, name, fallback);
    if (!std::isfinite(value) || value <= 0)
      throw Reject{"attribute " + std::string(name) + " is not a positive number", Str(value)};
    return value;
  }

  void Output(std::size_t i, Activation activation) {
    if (i < node_.outputs.size() && node_.outputs[i] >= 0)
      activations_[graph_.values[node_.outputs[i]].name] = std::move(activation);
  }

  // A [N, K] matrix of Q4NX blocks as input `i`, agreeing with the attributes K, N and bits.
  struct Matrix {
    int64_t N, K;
  };
  Matrix Q4nxMatrix(std::size_t i) const {
    const Matrix m{Int("N", 1, kMaxDim), Int("K", 1, kMaxDim)};
    const int64_t bits = AttributeOr<int64_t>(node_, "bits", 4);
    if (bits != 4 && bits != 8) throw Reject{"bits is not 4 or 8", Str(bits)};
    if (m.K % q4nx::kGroupSize) throw Reject{"K is not a multiple of 32", Str(m.K)};
    const Value& w = Input(i, "W");
    if (!w.is_constant) throw Reject{"W is not a constant", w.name};
    const int64_t blocks = q4nx::BlockCount(m.N, m.K), bytes = q4nx::BlockBytes(static_cast<int>(bits));
    if (w.type != DataType::kUint8 || w.shape.size() != 2 || w.shape[0].value != blocks || w.shape[1].value != bytes)
      throw Reject{"W is not uint8 [" + Str(blocks) + "," + Str(bytes) + "]", ShapeText(w)};
    return m;
  }

  const Graph& graph_;
  const Node& node_;
  Activations& activations_;
  Scalars& scalars_;
};

int64_t MatMulNBits(NodeRules& n) {
  const auto matrix = n.Q4nxMatrix(1);
  const Activation a = n.ActivationInput(0, "A");
  if (const int64_t block = AttributeOr<int64_t>(n.node_, "block_size", 32); block != 32)
    throw Reject{"block_size is not 32", Str(block)};
  if (a.width != matrix.K) throw Reject{"A's width is not K = " + Str(matrix.K), Str(a.width)};
  n.Output(0, {a.rows, matrix.N});
  return matrix.N * matrix.K;
}

int64_t EmbedNBits(NodeRules& n) {
  const auto matrix = n.Q4nxMatrix(1);
  const Value& ids = n.Input(0, "ids");
  if (ids.type != DataType::kInt64) throw Reject{"ids are not int64", ids.name};
  if (ids.is_constant) throw Reject{"ids are a constant", ids.name};
  if (!ids.has_shape || ids.shape.size() != 2) throw Reject{"ids are not [1, sequence]", ShapeText(ids)};
  if (ids.shape[0].value != 1) throw Reject{"batch is not 1", ShapeText(ids)};
  n.PositiveFloat("scale", 1.0f);
  n.Output(0, {RowsKey(ids, ids.shape[1]), matrix.K});
  return 0;
}

int64_t FlowAttention(NodeRules& n) {
  const int64_t heads = n.Int("num_heads", 1, kMaxDim), kv_heads = n.Int("kv_num_heads", 1, kMaxDim);
  if (heads % kv_heads) throw Reject{"num_heads is not a multiple of kv_num_heads = " + Str(kv_heads), Str(heads)};
  const int64_t head_dim = n.ConstantVector(5, "q_norm");
  if (head_dim % 16 || head_dim > kernels::kMaxHeadDim)
    throw Reject{"head_dim is not a multiple of 16 up to " + Str(kernels::kMaxHeadDim), Str(head_dim)};
  if (const int64_t k_norm = n.ConstantVector(6, "k_norm"); k_norm != head_dim)
    throw Reject{"k_norm is not as long as q_norm", Str(k_norm)};
  if (const auto mask = AttributeOr<std::string>(n.node_, "mask", "causal"); mask != "causal")
    throw Reject{"mask is not causal", mask};
  n.Int("window", 0, std::numeric_limits<int32_t>::max());
  for (const char* name : {"scale", "rope_theta", "rope_factor", "eps"}) n.PositiveFloat(name, 0.0f);

  const Activation q = n.ActivationInput(0, "q");
  if (q.width != heads * head_dim)
    throw Reject{"q's width is not num_heads * head_dim = " + Str(heads * head_dim), Str(q.width)};
  for (const auto& [i, name] : {std::pair{1, "k"}, std::pair{2, "v"}}) {
    const Activation kv = n.ActivationInput(i, name);
    if (kv != Activation{q.rows, kv_heads * head_dim})
      throw Reject{std::string(name) + "'s width is not kv_num_heads * head_dim", Str(kv.width)};
  }
  DataType type = DataType::kOther;
  for (const auto& [i, name] : {std::pair{3, "past_k"}, std::pair{4, "past_v"}}) {
    const Value& past = n.Input(i, name);
    if (past.type != DataType::kFloat16 && past.type != DataType::kFloat32)
      throw Reject{std::string(name) + " is not float16 or float32", past.name};
    if (i == 4 && past.type != type) throw Reject{"past_v's type is not past_k's", past.name};
    type = past.type;
    if (past.producer >= 0 || past.is_constant)
      throw Reject{std::string(name) + " is not an input of the graph", past.name};
    if (past.has_shape && (past.shape.size() != 4 || (past.shape[0].value >= 0 && past.shape[0].value != 1)))
      throw Reject{std::string(name) + " is not [1, kv_num_heads, length, head_dim]", ShapeText(past)};
  }
  n.ScalarInput(7, "past_len", DataType::kInt64);
  n.ScalarInput(8, "shared", DataType::kBool);
  if (n.node_.op_type == "FlowKV" && q.rows != "=1") throw Reject{"FlowKV takes one token", q.rows};
  n.Output(0, {q.rows, heads * head_dim});
  return 0;
}

int64_t RmsNormalization(NodeRules& n) {
  const int64_t width = n.ConstantVector(1, "scale");
  const Activation x = n.ActivationInput(0, "X");
  const int64_t axis = AttributeOr<int64_t>(n.node_, "axis", -1);
  if (axis != -1 && axis != 2) throw Reject{"axis is not the last", Str(axis)};
  if (const int64_t stash = AttributeOr<int64_t>(n.node_, "stash_type", 1); stash != 1)
    throw Reject{"stash_type is not float32", Str(stash)};
  n.PositiveFloat("epsilon", 1e-5f);
  if (width != x.width) throw Reject{"scale's length is not X's width = " + Str(x.width), Str(width)};
  n.Output(0, x);
  return 0;
}

int64_t Gelu(NodeRules& n) {
  const Activation x = n.ActivationInput(0, "X");
  if (const auto kind = AttributeOr<std::string>(n.node_, "approximate", "none"); kind != "tanh")
    throw Reject{"approximate is not tanh", kind};
  n.Output(0, x);
  return 0;
}

// Add and Mul of two activations of one shape (residuals, GeGLU); a broadcast is not ours.
int64_t Elementwise(NodeRules& n) {
  const Activation a = n.ActivationInput(0, "A"), b = n.ActivationInput(1, "B");
  if (a != b)
    throw Reject{"A and B differ in shape", a.rows + "x" + Str(a.width) + " and " + b.rows + "x" + Str(b.width)};
  n.Output(0, a);
  return 0;
}

int64_t GatherLast(NodeRules& n) {
  const Activation x = n.ActivationInput(0, "data");
  if (const int64_t axis = AttributeOr<int64_t>(n.node_, "axis", 0); axis != 1)
    throw Reject{"axis is not 1", Str(axis)};
  const Value& indices = n.Input(1, "indices");
  if (!indices.is_constant || indices.type != DataType::kInt64 || indices.shape.size() != 1 ||
      indices.shape[0].value != 1 || indices.constant.bytes != sizeof(int64_t))
    throw Reject{"indices are not one constant [-1]", indices.name};
  int64_t index = 0;
  std::memcpy(&index, indices.constant.data, sizeof(index));
  if (index != -1) throw Reject{"indices are not [-1]", Str(index)};
  n.Output(0, {"=1", x.width});
  return 0;
}

// One dimension of an input of the graph.
int64_t ShapeOfInput(NodeRules& n) {
  const Value& x = n.Input(0, "data");
  if (x.producer >= 0 || x.is_constant) throw Reject{"data is not an input of the graph", x.name};
  const int64_t start = AttributeOr<int64_t>(n.node_, "start", 0), end = AttributeOr<int64_t>(n.node_, "end", -1);
  if (start < 0 || start > 8 || end != start + 1 || (x.has_shape && end > static_cast<int64_t>(x.shape.size())))
    throw Reject{"not one dimension", Str(start) + " to " + Str(end)};
  n.ScalarOutput(DataType::kInt64);
  return 0;
}

int64_t ScalarSub(NodeRules& n) {
  n.ScalarInput(0, "A", DataType::kInt64);
  n.ScalarInput(1, "B", DataType::kInt64);
  n.ScalarOutput(DataType::kInt64);
  return 0;
}

int64_t ScalarEqual(NodeRules& n) {
  n.ScalarInput(0, "A", DataType::kInt64);
  n.ScalarInput(1, "B", DataType::kInt64);
  n.ScalarOutput(DataType::kBool);
  return 0;
}

int64_t ScalarNot(NodeRules& n) {
  n.ScalarInput(0, "X", DataType::kBool);
  n.ScalarOutput(DataType::kBool);
  return 0;
}

struct Rule {
  std::string_view domain;
  std::string_view op_type;
  bool always_claimable;  // false: an operator of many uses; only those inside our region are ours
  int64_t (*check)(NodeRules&);
};

constexpr Rule kRules[] = {
    {kDomain, "MatMulNBits", true, MatMulNBits},
    {kDomain, "EmbedNBits", true, EmbedNBits},
    {kDomain, "FlowQKV", true, FlowAttention},
    {kDomain, "FlowKV", true, FlowAttention},
    {"", "RMSNormalization", true, RmsNormalization},
    {"", "Gelu", true, Gelu},
    {"", "Mul", false, Elementwise},
    {"", "Add", false, Elementwise},
    {"", "Gather", false, GatherLast},
    {"", "Shape", false, ShapeOfInput},
    {"", "Sub", false, ScalarSub},
    {"", "Equal", false, ScalarEqual},
    {"", "Not", false, ScalarNot},
};

const Rule* FindRule(const Node& node) {
  for (const Rule& rule : kRules)
    if (node.op_type == rule.op_type &&
        (node.domain == rule.domain || (rule.domain.empty() && node.domain == "ai.onnx")))
      return &rule;
  return nullptr;
}

// A product that ORT's CPU EP would do: its share is what `explain` and the placement summary hold against us.
int64_t ForeignMacs(const Graph& graph, const Node& node) {
  if (node.op_type == "MatMul" && node.inputs.size() == 2 && node.inputs[1] >= 0) {
    const Value& w = graph.values[node.inputs[1]];
    if (w.is_constant && w.shape.size() == 2 && w.shape[0].value > 0 && w.shape[1].value > 0)
      return w.shape[0].value * w.shape[1].value;
  }
  const int64_t N = AttributeOr<int64_t>(node, "N", 0), K = AttributeOr<int64_t>(node, "K", 0);
  const bool sane = N > 0 && K > 0 && N <= kMaxDim && K <= kMaxDim;
  return node.op_type == "MatMulNBits" && sane ? N * K : 0;
}

}  // namespace

std::string RowsKey(const Value& value, const Dim& dim) {
  if (dim.value >= 0) return std::string("=").append(Str(dim.value));
  return dim.symbol.empty() ? "rows of " + value.name : dim.symbol;
}

Policy Decide(const Graph& graph, const Policy* known) {
  Policy policy;
  if (known) {
    policy.activations = known->activations;
    policy.scalars = known->scalars;
  }
  policy.decisions.reserve(graph.nodes.size());
  for (const Node& node : graph.nodes) {
    Decision decision;
    const Rule* rule = FindRule(node);
    if (!rule) {
      decision = {false, false, "operator is not one of the EP's", node.op_type, ForeignMacs(graph, node)};
    } else {
      try {
        NodeRules rules(graph, node, policy);
        decision = {true, true, "", "", rule->check(rules)};
      } catch (const Reject& reject) {
        decision = {false, rule->always_claimable, reject.reason, reject.value, ForeignMacs(graph, node)};
      }
    }
    policy.decisions.push_back(std::move(decision));
  }
  return policy;
}

}  // namespace ryzen_npu_gemma::ep
