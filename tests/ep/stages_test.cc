// Which launches run together, and what nobody reads after them.
#include "ep/src/device/stages.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/ep/graph_builder.h"

namespace ryzen_npu_gemma::ep {
namespace {

// A layer on x, the final norm z, its last row and the head.
Plan Layer(const std::vector<std::string>& outputs, Accuracy accuracy = Accuracy::kFast) {
  GraphBuilder b;
  b.Value("x", DataType::kFloat32, {{1, ""}, {-1, "sequence"}, {64, ""}});
  b.Norm("x", "n");
  b.MatMulNBits("n", "q", 64, 64);
  for (const char* name : {"k", "v"}) b.MatMulNBits("n", name, 32, 64);
  b.Flow("FlowQKV", "q", "k", "v", "a", 2, 1, 32);
  b.MatMulNBits("a", "o", 64, 64);
  b.Norm("o", "p");
  b.Binary("Add", "x", "p", "h");
  b.Norm("h", "m");
  b.GeGlu("m");
  b.Binary("Add", "h", "down", "r");
  b.Norm("r", "z");
  b.LastRow("z", "last");
  b.MatMulNBits("last", "logits", 96, 64);
  static WeightStore weights;
  return BuildPlan(b.graph, Decide(b.graph), {"x", "past_k", "past_v", "past_len", "shared"}, outputs, weights,
                   accuracy);
}

// Stages, apart by "|"; of a launch that writes what passes, a star.
std::string Text(const Plan& plan) {
  struct {
    std::pair<std::string, const Operand*> operator()(const Embed& l) const { return {"embed", &l.y}; }
    std::pair<std::string, const Operand*> operator()(const RmsNorm& l) const { return {"norm", &l.y}; }
    std::pair<std::string, const Operand*> operator()(const MatMul&) const { return {"product", nullptr}; }
    std::pair<std::string, const Operand*> operator()(const FlowAttention&) const { return {"attention", nullptr}; }
    std::pair<std::string, const Operand*> operator()(const Gelu& l) const { return {"gelu", &l.y}; }
    std::pair<std::string, const Operand*> operator()(const GeluMul& l) const { return {"geglu", &l.y}; }
    std::pair<std::string, const Operand*> operator()(const Elementwise& l) const { return {"add", &l.y}; }
    std::pair<std::string, const Operand*> operator()(const LastRow&) const { return {"last", nullptr}; }
  } name;
  std::string text;
  for (const Stage& stage : StagesOf(plan)) {
    for (std::size_t i = stage.begin; i < stage.end; ++i) {
      const auto [word, y] = std::visit(name, plan.launches[i]);
      const bool passes = y && y->place == Operand::Place::kBuffer &&
                          std::count(stage.passing.begin(), stage.passing.end(), y->index) > 0;
      text += (i == stage.begin ? "" : " ") + word + (passes ? "*" : "");
    }
    text += " | ";
  }
  return text;
}

// h is read again by a later chain, z by LastRow; in `exact` a product itself reads what the chain before it made.
TEST(Stages, AChainEndsWithTheNextLaunchOfAnotherKind) {
  const std::vector<std::string> outputs{"present_k", "present_v", "logits", "q", "z"};
  EXPECT_EQ(Text(Layer(outputs)),
            "norm* product | attention | product | norm* add norm* product | geglu* product | add* norm | last | "
            "product | ");
  EXPECT_EQ(Text(Layer(outputs, Accuracy::kExact)),
            "norm product | attention | product | norm add norm product | geglu product | add* norm | last | "
            "product | ");  // the first and the last norm of a chain share a buffer
}

// Of the first norm all rows are multiplied by k and v, and one by q.
TEST(Stages, AChainEndsWhereOtherRowsBegin) {
  const Plan plan = Layer({"present_k", "present_v", "logits"});
  EXPECT_EQ(Text(plan),
            "norm | last | product | product | attention | product | norm last | add norm product | geglu* product | "
            "add* norm last | product | ");
}

TEST(Stages, AnOutputDoesNotPass) {
  const Plan plan = Layer({"present_k", "present_v", "logits", "n", "m", "gu", "z"});
  EXPECT_EQ(Text(plan),
            "norm product | attention | product | norm* add norm product | geglu product | add* norm | last | "
            "product | ");
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
