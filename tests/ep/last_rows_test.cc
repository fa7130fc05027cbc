// Which values are needed in their last row only: all of a last layer but its first norm, keys and values; none where
// somebody reads more.
#include "ep/src/last_rows.h"

#include <gtest/gtest.h>

#include "tests/ep/graph_builder.h"

namespace ryzen_npu_gemma::ep {
namespace {

constexpr char kLayer[] = "n q k v a o h m gate up g gu down r z";  // its values, in the order of nodes

// A layer on x, the final norm z, its last row and the head.
GraphBuilder Layer(const Dim& rows = {-1, "sequence"}, const std::string& attention = "FlowQKV") {
  GraphBuilder b;
  b.Value("x", DataType::kFloat32, {{1, ""}, rows, {64, ""}});
  b.Norm("x", "n");
  b.MatMulNBits("n", "q", 64, 64);
  for (const char* name : {"k", "v"}) b.MatMulNBits("n", name, 32, 64);
  b.Flow(attention, "q", "k", "v", "a", 2, 1, 32);
  b.MatMulNBits("a", "o", 64, 64);
  b.Binary("Add", "x", "o", "h");
  b.Norm("h", "m");
  b.GeGlu("m");
  b.Binary("Add", "h", "down", "r");
  b.Norm("r", "z");
  b.LastRow("z", "last");
  b.MatMulNBits("last", "logits", 96, 64);
  return b;
}

// The layer's values of one row, beside `outputs`.
std::string OneRow(const GraphBuilder& b, std::vector<std::string> outputs = {"logits", "present_k", "present_v"}) {
  const Policy policy = Decide(b.graph);
  for (const Decision& decision : policy.decisions) EXPECT_TRUE(decision.claimed) << decision.reason;
  const Activations needed = NeededRows(b.graph, policy.activations, outputs);
  std::string names;
  for (std::istringstream layer(kLayer); !layer.eof();) {
    std::string name;
    layer >> name;
    EXPECT_EQ(needed.at(name).width, policy.activations.at(name).width);
    if (needed.at(name).rows == "=1") names += (names.empty() ? "" : " ") + name;
  }
  EXPECT_EQ(needed.at("x"), policy.activations.at("x"));
  return names;
}

TEST(NeededRows, OfALastLayerAreTheLastButForKeysAndValues) {
  EXPECT_EQ(OneRow(Layer()), "q a o h m gate up g gu down r z");
  EXPECT_EQ(OneRow(Layer({7, ""})), "q a o h m gate up g gu down r z");
}

TEST(NeededRows, OfALayerBeforeAreAll) {
  GraphBuilder b = Layer();
  b.Flow("FlowQKV", "q", "r", "v", "later", 2, 1, 32);  // r are keys
  b.graph.nodes.back().attributes["kv_num_heads"] = int64_t{2};
  const Activations needed = NeededRows(b.graph, Decide(b.graph).activations, {"logits", "later"});
  for (const char* name : {"n", "q", "a", "o", "h", "m", "gate", "gu", "down", "r"})
    EXPECT_EQ(needed.at(name).rows, "sequence") << name;
  EXPECT_EQ(needed.at("z").rows, "=1");
}

TEST(NeededRows, OfWhatLeavesTheRegionAreAll) {
  EXPECT_EQ(OneRow(Layer(), {"logits", "z"}), "");
  EXPECT_EQ(OneRow(Layer(), {"logits", "h"}), "m gate up g gu down r z");
  EXPECT_EQ(OneRow(Layer(), {"logits", "up"}), "gate g gu down r z");
}

TEST(NeededRows, OfWhatNobodyReadsAreAll) {
  GraphBuilder b = Layer();
  b.MatMulNBits("gu", "unread", 32, 128);
  EXPECT_EQ(OneRow(b), "down r z");
}

TEST(NeededRows, OfAModelOfAllLogitsAreAll) {
  GraphBuilder b = Layer();
  b.MatMulNBits("z", "all_logits", 96, 64);
  EXPECT_EQ(OneRow(b, {"all_logits", "logits"}), "");
}

TEST(NeededRows, OfOneTokenStayAsTheyAre) {
  const GraphBuilder b = Layer({1, ""}, "FlowKV");
  const Activations all = Decide(b.graph).activations;
  EXPECT_EQ(NeededRows(b.graph, all, {"logits"}), all);
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
