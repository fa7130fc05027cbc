// Builds plain graphs for the EP's tests, as graph_reader.cc would read them.
#pragma once

#include <initializer_list>
#include <list>
#include <random>
#include <string>
#include <vector>

#include "ep/src/graph.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::ep {

class GraphBuilder {
 public:
  Graph graph;

  int Value(const std::string& name, DataType type, std::vector<Dim> shape = {}) {
    for (std::size_t i = 0; i < graph.values.size(); ++i)
      if (graph.values[i].name == name) return static_cast<int>(i);
    ep::Value value;
    value.name = name;
    value.type = type;
    value.has_shape = !shape.empty();
    value.shape = std::move(shape);
    graph.values.push_back(std::move(value));
    return static_cast<int>(graph.values.size()) - 1;
  }

  int Constant(const std::string& name, DataType type, std::vector<Dim> shape, std::vector<uint8_t> bytes) {
    const int index = Value(name, type, std::move(shape));
    storage_.push_back(std::move(bytes));
    graph.values[index].is_constant = true;
    graph.values[index].constant = {storage_.back().data(), storage_.back().size()};
    return index;
  }

  int Floats(const std::string& name, std::vector<float> values) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    return Constant(name, DataType::kFloat32, {{static_cast<int64_t>(values.size()), ""}},
                    {bytes, bytes + values.size() * sizeof(float)});
  }

  // Q4NX blocks of an [N, K] matrix, all bytes zero unless given.
  int Matrix(const std::string& name, int64_t N, int64_t K, int bits = 4, std::vector<uint8_t> bytes = {}) {
    const int64_t blocks = q4nx::BlockCount(N, K), width = q4nx::BlockBytes(bits);
    bytes.resize(static_cast<std::size_t>(blocks * width));
    return Constant(name, DataType::kUint8, {{blocks, ""}, {width, ""}}, std::move(bytes));
  }

  Node& Add(const std::string& domain, const std::string& op_type, std::vector<int> inputs,
            const std::vector<std::string>& outputs, std::map<std::string, Attribute, std::less<>> attributes = {}) {
    const int index = static_cast<int>(graph.nodes.size());
    Node node{domain, op_type, op_type + std::to_string(index), std::move(inputs), {}, std::move(attributes)};
    for (int input : node.inputs)
      if (input >= 0) graph.values[input].consumers.push_back(index);
    for (const std::string& output : outputs) {
      node.outputs.push_back(Value(output, DataType::kFloat32));
      graph.values[node.outputs.back()].producer = index;
    }
    graph.nodes.push_back(std::move(node));
    return graph.nodes.back();
  }

  Node& MatMulNBits(const std::string& a, const std::string& y, int64_t N, int64_t K, int bits = 4) {
    const int w = Matrix("w_" + y, N, K, bits);
    return Add(std::string(kDomain), "MatMulNBits", {Value(a, DataType::kFloat32), w}, {y},
               {{"N", N}, {"K", K}, {"bits", int64_t{bits}}, {"block_size", int64_t{32}}});
  }

  Node& Flow(const std::string& op_type, const std::string& q, const std::string& k, const std::string& v,
             const std::string& y, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t window = 0) {
    const std::vector<Dim> past{{1, ""}, {kv_heads, ""}, {-1, "past"}, {head_dim, ""}};
    const std::vector<float> ones(static_cast<std::size_t>(head_dim), 1.0f);
    return Add(std::string(kDomain), op_type,
               {Value(q, DataType::kFloat32), Value(k, DataType::kFloat32), Value(v, DataType::kFloat32),
                Value("past_k", DataType::kFloat16, past), Value("past_v", DataType::kFloat16, past),
                Floats("q_norm", ones), Floats("k_norm", ones), Value("past_len", DataType::kInt64, {{1, ""}}),
                Value("shared", DataType::kBool, {{1, ""}})},
               {y, "present_k", "present_v"},
               {{"num_heads", heads},
                {"kv_num_heads", kv_heads},
                {"scale", 0.25f},
                {"window", window},
                {"rope_theta", 10000.0f},
                {"rope_factor", 1.0f},
                {"eps", 1e-6f},
                {"mask", std::string("causal")}});
  }

  Node& Norm(const std::string& x, const std::string& y) {
    return Add("", "RMSNormalization", {Value(x, DataType::kFloat32), Floats("ones", std::vector<float>(64, 1.0f))},
               {y});
  }

  Node& Binary(const std::string& op, const std::string& x, const std::string& other, const std::string& y) {
    return Add("", op, {Value(x, DataType::kFloat32), Value(other, DataType::kFloat32)}, {y});
  }

  // down(gelu(gate(m)) up(m)) of m [rows, 64].
  void GeGlu(const std::string& m) {
    for (const char* name : {"gate", "up"}) MatMulNBits(m, name, 128, 64);
    Add("", "Gelu", {Value("gate", DataType::kFloat32)}, {"g"}, {{"approximate", std::string("tanh")}});
    Binary("Mul", "g", "up", "gu");
    MatMulNBits("gu", "down", 64, 128);
  }

  Node& LastRow(const std::string& x, const std::string& y) {
    const int64_t last = -1;
    const auto* bytes = reinterpret_cast<const uint8_t*>(&last);
    return Add("", "Gather",
               {Value(x, DataType::kFloat32), Constant("last", DataType::kInt64, {{1, ""}}, {bytes, bytes + 8})}, {y},
               {{"axis", int64_t{1}}});
  }

  // Fills every 4-bit matrix with random codes, scale 0.01 and minimum -0.075.
  void RandomWeights() {
    std::mt19937 random(11);
    for (ep::Value& value : graph.values) {
      if (value.type != DataType::kUint8) continue;
      auto* bytes = static_cast<uint8_t*>(const_cast<void*>(value.constant.data));
      for (std::size_t i = 0; i < value.constant.bytes; ++i) {
        const int64_t in_block = static_cast<int64_t>(i) % q4nx::kBlockBytes4;
        const uint16_t bf16 = in_block < q4nx::kMinOffset ? 0x3c24 : 0xbd9a;
        bytes[i] = static_cast<uint8_t>(in_block >= q4nx::kNibbleOffset ? random() : i % 2 ? bf16 >> 8 : bf16 & 0xff);
      }
    }
  }

 private:
  std::list<std::vector<uint8_t>> storage_;
};

}  // namespace ryzen_npu_gemma::ep
