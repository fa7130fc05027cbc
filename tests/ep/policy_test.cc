// The policy on plain graphs: what is claimed, and for every near miss the reason and the value that caused it.
#include "ep/src/policy.h"

#include <gtest/gtest.h>

#include "ep/src/placement.h"
#include "tests/ep/graph_builder.h"

namespace ryzen_npu_gemma::ep {
namespace {

const std::vector<Dim> kTokens{{1, ""}, {-1, "sequence"}};
std::vector<Dim> Rows(int64_t width) { return {{1, ""}, {-1, "sequence"}, {width, ""}}; }

// ids -> EmbedNBits -> q, k, v -> FlowQKV -> o -> + residual -> GeGLU -> + -> last row -> head
GraphBuilder Decoder() {
  GraphBuilder b;
  b.Add(std::string(kDomain), "EmbedNBits", {b.Value("ids", DataType::kInt64, kTokens), b.Matrix("head", 96, 64)},
        {"h"}, {{"N", int64_t{96}}, {"K", int64_t{64}}, {"scale", 8.0f}});
  b.Add("", "RMSNormalization", {b.Value("h", DataType::kFloat32), b.Floats("norm", std::vector<float>(64, 1.0f))},
        {"x"}, {{"epsilon", 1e-6f}});
  b.MatMulNBits("x", "q", 64, 64);
  b.MatMulNBits("x", "k", 32, 64);
  b.MatMulNBits("x", "v", 32, 64);
  b.Flow("FlowQKV", "q", "k", "v", "a", 2, 1, 32, 16);
  b.MatMulNBits("a", "o", 64, 64);
  b.Add("", "Add", {b.Value("h", DataType::kFloat32), b.Value("o", DataType::kFloat32)}, {"r"});
  b.MatMulNBits("r", "gate", 128, 64);
  b.MatMulNBits("r", "up", 128, 64, 8);
  b.Add("", "Gelu", {b.Value("gate", DataType::kFloat32)}, {"g"}, {{"approximate", std::string("tanh")}});
  b.Add("", "Mul", {b.Value("g", DataType::kFloat32), b.Value("up", DataType::kFloat32)}, {"m"});
  b.MatMulNBits("m", "down", 64, 128);
  b.Add("", "Add", {b.Value("r", DataType::kFloat32), b.Value("down", DataType::kFloat32)}, {"out"});
  const int64_t last = -1;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&last);
  b.Add("", "Gather",
        {b.Value("out", DataType::kFloat32), b.Constant("last", DataType::kInt64, {{1, ""}}, {bytes, bytes + 8})},
        {"one"}, {{"axis", int64_t{1}}});
  b.Add(std::string(kDomain), "MatMulNBits", {b.Value("one", DataType::kFloat32), b.Matrix("head", 96, 64)}, {"logits"},
        {{"N", int64_t{96}}, {"K", int64_t{64}}});
  return b;
}

int NodeOf(const Graph& graph, const std::string& output) {
  for (const Value& value : graph.values)
    if (value.name == output) return value.producer;
  return -1;
}

TEST(Policy, ClaimsEveryNodeOfADecoder) {
  const GraphBuilder b = Decoder();
  const Policy policy = Decide(b.graph);
  for (std::size_t i = 0; i < b.graph.nodes.size(); ++i)
    EXPECT_TRUE(policy.decisions[i].claimed)
        << b.graph.nodes[i].name << ": " << policy.decisions[i].reason << " " << policy.decisions[i].value;
  EXPECT_EQ(policy.activations.at("logits"), (Activation{"=1", 96}));
  EXPECT_EQ(policy.activations.at("m"), (Activation{"sequence", 128}));
  EXPECT_EQ(policy.decisions[NodeOf(b.graph, "logits")].macs_per_token, 96 * 64);
  EXPECT_EQ(RefusedNodes(b.graph, policy), "");
}

// One near miss: how the decoder is bent, the output of the node that must be refused, and why.
struct NearMiss {
  const char* name;
  void (*bend)(Graph& graph);
  const char* output;
  const char* reason;
  const char* value;
};

Node& At(Graph& graph, const std::string& output) { return graph.nodes[NodeOf(graph, output)]; }
Value& ValueAt(Graph& graph, const std::string& name) {
  for (Value& value : graph.values)
    if (value.name == name) return value;
  throw std::out_of_range(name);
}

const NearMiss kNearMisses[] = {
    {"Bits", [](Graph& g) { At(g, "q").attributes["bits"] = int64_t{3}; }, "q", "bits is not 4 or 8", "3"},
    {"BlockSize", [](Graph& g) { At(g, "q").attributes["block_size"] = int64_t{64}; }, "q", "block_size is not 32",
     "64"},
    {"KNotAMultiple", [](Graph& g) { At(g, "q").attributes["K"] = int64_t{48}; }, "q", "K is not a multiple of 32",
     "48"},
    {"KMissing", [](Graph& g) { At(g, "q").attributes.erase("K"); }, "q", "attribute K is missing", ""},
    {"KHuge", [](Graph& g) { At(g, "q").attributes["K"] = int64_t{1} << 40; }, "q", "attribute K is out of range",
     "1099511627776"},
    {"WrongBlocks", [](Graph& g) { At(g, "q").attributes["N"] = int64_t{512}; }, "q", "W is not uint8 [16,5120]",
     "[2,5120]"},
    {"WeightIsAnInput", [](Graph& g) { ValueAt(g, "w_q").is_constant = false; }, "q", "W is not a constant", "w_q"},
    {"WidthIsNotK", [](Graph& g) { At(g, "down").attributes["K"] = int64_t{256}; }, "down", "A's width is not K = 256",
     "128"},
    {"HeadsNotDivisible", [](Graph& g) { At(g, "a").attributes["kv_num_heads"] = int64_t{3}; }, "a",
     "num_heads is not a multiple of kv_num_heads = 3", "2"},
    {"NonCausal", [](Graph& g) { At(g, "a").attributes["mask"] = std::string("full"); }, "a", "mask is not causal",
     "full"},
    {"NegativeWindow", [](Graph& g) { At(g, "a").attributes["window"] = int64_t{-1}; }, "a",
     "attribute window is out of range", "-1"},
    {"ScaleNan", [](Graph& g) { At(g, "a").attributes["scale"] = std::nanf(""); }, "a",
     "attribute scale is not a positive number", "nan"},
    {"ThetaMissing", [](Graph& g) { At(g, "a").attributes.erase("rope_theta"); }, "a",
     "attribute rope_theta is not a positive number", "0.000000"},
    {"PastIsMade", [](Graph& g) { ValueAt(g, "past_k").producer = 0; }, "a", "past_k is not an input of the graph",
     "past_k"},
    {"PastType", [](Graph& g) { ValueAt(g, "past_v").type = DataType::kFloat32; }, "a", "past_v's type is not past_k's",
     "past_v"},
    {"PastBatch", [](Graph& g) { ValueAt(g, "past_k").shape[0].value = 2; }, "a",
     "past_k is not [1, kv_num_heads, length, head_dim]", "[2,1,past,32]"},
    {"FlowKvOfManyTokens", [](Graph& g) { At(g, "a").op_type = "FlowKV"; }, "a", "FlowKV takes one token", "sequence"},
    {"Batch", [](Graph& g) { ValueAt(g, "ids").shape[0].value = 2; }, "h", "batch is not 1", "[2,sequence]"},
    {"IdsType", [](Graph& g) { ValueAt(g, "ids").type = DataType::kFloat32; }, "h", "ids are not int64", "ids"},
    {"PastLenOfUnknownShape",
     [](Graph& g) {
       ValueAt(g, "past_len").has_shape = false;
       ValueAt(g, "past_len").shape.clear();
     },
     "a", "past_len is not one number", "unknown shape"},
    {"ConstantIds", [](Graph& g) { ValueAt(g, "ids").is_constant = true; }, "h", "ids are a constant", "ids"},
    {"GeluErf", [](Graph& g) { At(g, "g").attributes["approximate"] = std::string("none"); }, "g",
     "approximate is not tanh", "none"},
    {"NormAxis", [](Graph& g) { At(g, "x").attributes["axis"] = int64_t{1}; }, "x", "axis is not the last", "1"},
    {"NormWeight", [](Graph& g) { ValueAt(g, "norm").is_constant = false; }, "x", "scale is not a constant", "norm"},
    {"NotTheLastRow", [](Graph& g) { At(g, "one").attributes["axis"] = int64_t{0}; }, "one", "axis is not 1", "0"},
    {"ForeignDomain", [](Graph& g) { At(g, "q").domain = "com.example"; }, "q", "operator is not one of the EP's",
     "MatMulNBits"},
};

class PolicyNearMiss : public testing::TestWithParam<NearMiss> {};

TEST_P(PolicyNearMiss, IsRefusedWithReasonAndValue) {
  GraphBuilder b = Decoder();
  GetParam().bend(b.graph);
  const Policy policy = Decide(b.graph);
  const Decision& decision = policy.decisions[NodeOf(b.graph, GetParam().output)];
  EXPECT_FALSE(decision.claimed);
  EXPECT_EQ(decision.reason, GetParam().reason);
  EXPECT_EQ(decision.value, GetParam().value);
}

INSTANTIATE_TEST_SUITE_P(All, PolicyNearMiss, testing::ValuesIn(kNearMisses),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Policy, RefusedNodesNamesClaimableOnes) {
  GraphBuilder b = Decoder();
  At(b.graph, "a").attributes["mask"] = std::string("full");
  const std::string text = RefusedNodes(b.graph, Decide(b.graph));
  EXPECT_NE(text.find("ryzen.npu.gemma::FlowQKV 'FlowQKV5': mask is not causal (full)"), std::string::npos) << text;
}

TEST(Policy, AddOfDifferentRowsIsNotClaimed) {
  GraphBuilder b;
  b.Add("", "Add",
        {b.Value("x", DataType::kFloat32, Rows(64)), b.Value("y", DataType::kFloat32, {{1, ""}, {1, ""}, {64, ""}})},
        {"z"});
  const Policy policy = Decide(b.graph);
  EXPECT_FALSE(policy.decisions[0].claimed);
  EXPECT_FALSE(policy.decisions[0].claimable);  // a broadcast Add is nobody's fault: strict mode must not complain
  EXPECT_EQ(policy.decisions[0].value, "sequencex64 and =1x64");
}

TEST(Policy, SingleNodeOfAForeignGraphIsClaimed) {
  GraphBuilder b;
  b.Value("x", DataType::kFloat32, Rows(64));
  b.MatMulNBits("x", "y", 40, 64);
  EXPECT_TRUE(Decide(b.graph).decisions[0].claimed);
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
