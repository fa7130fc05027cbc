// A copy of what the EP needs to know of an ORT graph, as plain data: the policy and the plan are decided on this, so
// they are tested without onnxruntime. graph_reader.cc fills it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ryzen_npu_gemma::ep {

inline constexpr std::string_view kDomain = "ryzen.npu.gemma";

enum class DataType { kOther, kFloat32, kFloat16, kInt64, kUint8, kBool };

struct Dim {
  int64_t value = -1;  // -1: unknown
  std::string symbol;  // the name of an unknown dimension, when it has one
};

// Bytes of a constant; valid while the ORT graph they were read from is.
struct ConstantData {
  const void* data = nullptr;
  std::size_t bytes = 0;
};

// Where a constant's bytes lie in the model's external data file; path is empty for a constant inside the model.
struct ExternalLocation {
  std::string path;
  int64_t offset = 0;
  std::size_t bytes = 0;
};

struct Value {
  std::string name;
  DataType type = DataType::kOther;
  bool has_shape = false;
  std::vector<Dim> shape;
  bool is_constant = false;
  ConstantData constant;
  ExternalLocation external;
  bool is_graph_output = false;
  int producer = -1;           // node index
  std::vector<int> consumers;  // node indices, one entry a use
};

using Attribute = std::variant<int64_t, float, std::string>;

struct Node {
  std::string domain;
  std::string op_type;
  std::string name;
  std::vector<int> inputs;  // value indices; -1 where an optional input is absent
  std::vector<int> outputs;
  std::map<std::string, Attribute, std::less<>> attributes;
};

struct Graph {
  std::vector<Node> nodes;  // topological order
  std::vector<Value> values;
};

}  // namespace ryzen_npu_gemma::ep
