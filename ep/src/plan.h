// A claimed region as an ordered list of launches over a few buffers: what a device runs. Plain data, decided once when
// the session is made; only the number of rows (tokens) is left open until a run.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "ep/src/graph.h"
#include "ep/src/options.h"
#include "ep/src/policy.h"
#include "ep/src/weights.h"

namespace ryzen_npu_gemma::ep {

// An activation [rows, width] fp32: an input or output tensor of the region, or a buffer of the workspace.
struct Operand {
  enum class Place { kInput, kOutput, kBuffer };
  Place place = Place::kBuffer;
  int index = 0;  // of Plan::inputs, outputs or buffers
  int rows = 0;   // index of Plan::row_symbols
  int64_t width = 0;
};

struct Embed {
  int ids_input;
  std::shared_ptr<const PackedMatrix> w;
  float scale;
  Operand y;
};
struct RmsNorm {
  Operand x;
  std::vector<float> weight;
  float eps;
  Operand y;
};
struct MatMul {  // y[i] = a w[i]^T: matrices that share their activation are one launch
  Operand a;
  std::vector<std::shared_ptr<const PackedMatrix>> w;
  std::vector<Operand> y;
};
struct FlowAttention {
  Operand q, k, v;  // q may be the last of the rows alone, as y is then
  int past_k_input, past_v_input;
  int past_len, shared;  // indices of Plan::scalars
  int present_k_output, present_v_output;
  std::vector<float> q_norm, k_norm;
  int64_t num_heads, kv_num_heads, head_dim, window;
  float scale, eps;
  int rope;  // index of Plan::ropes
  DataType kv_type;
  std::string name;
  Operand y;
};
struct Gelu {
  Operand x, y;
};
struct GeluMul {
  Operand gate, up, y;
};
struct Elementwise {
  bool multiply;  // else add
  Operand a, b, y;
};
struct LastRow {
  Operand x, y;
};
using Launch = std::variant<Embed, RmsNorm, MatMul, FlowAttention, Gelu, GeluMul, Elementwise, LastRow>;

// The rotations of a call's new positions; launches share a table only when past and rows are the same.
struct Rope {
  float theta, factor;
  int64_t head_dim;
  int past_len;  // index of Plan::scalars
  int rows;      // index of Plan::row_symbols
  bool operator==(const Rope&) const = default;
};

struct RowSymbol {
  std::string name;       // "=1" for a constant
  int64_t constant = -1;  // its value
};

// One number of a run, computed before its launches: from an input or from scalars before it.
struct Scalar {
  enum class Kind { kConstant, kInput, kDim, kSub, kEqual, kNot } kind;
  int a;              // kInput, kDim: index of Plan::inputs; else of Plan::scalars
  int b;              // kDim: the dimension; kSub, kEqual: index of Plan::scalars
  DataType type;      // kInt64 or kBool
  int64_t value = 0;  // kConstant
  int output = -1;    // index of Plan::outputs, when it is one
};

// What the region's inputs must look like; checked at every run.
struct PlanInput {
  std::string name;
  DataType type;
  enum class Role { kIds, kActivation, kOther } role;
  int rows = -1;       // kIds, kActivation
  int64_t width = -1;  // kActivation
};

struct Plan {
  Accuracy accuracy = Accuracy::kExact;  // what its weights are packed for
  std::vector<PlanInput> inputs;
  std::vector<std::string> outputs;
  std::vector<RowSymbol> row_symbols;
  std::vector<Operand> buffers;  // rows and width of each workspace buffer
  std::vector<Rope> ropes;
  std::vector<Scalar> scalars;
  std::vector<Launch> launches;
  std::vector<std::string> launch_names;  // of the nodes that they came from
};

// Builds the plan of a region. `graph` holds the region's nodes alone, every one of them claimed by `policy`;
// `input_names` and `output_names` are the fused node's, in its order. Throws Error.
Plan BuildPlan(const Graph& graph, const Policy& policy, const std::vector<std::string>& input_names,
               const std::vector<std::string>& output_names, WeightStore& weights, Accuracy accuracy);

}  // namespace ryzen_npu_gemma::ep
