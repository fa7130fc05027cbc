// Plans: what a region is lowered to, buffers that are reused but never while live, and a run over plain memory.
#include "ep/src/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "ep/src/device/host.h"
#include "ep/src/error.h"
#include "tests/ep/backward_threads.h"
#include "tests/ep/graph_builder.h"

namespace ryzen_npu_gemma::ep {
namespace {

std::vector<Dim> Rows(int64_t width) { return {{1, ""}, {-1, "sequence"}, {width, ""}}; }

class MemoryTensors final : public RunTensors {
 public:
  std::vector<TensorView> inputs;
  std::map<int, std::vector<float>> outputs;
  std::map<int, std::vector<int64_t>> shapes;

  TensorView Input(int index) override { return inputs.at(static_cast<std::size_t>(index)); }
  void* Output(int index, const std::vector<int64_t>& shape) override {
    int64_t count = 1;
    for (int64_t dim : shape) count *= dim;
    shapes[index] = shape;
    outputs[index].resize(static_cast<std::size_t>(count));
    return outputs[index].data();
  }
};

Plan MakePlan(GraphBuilder& b, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
              Accuracy accuracy = Accuracy::kExact) {
  static WeightStore weights;
  return BuildPlan(b.graph, Decide(b.graph), inputs, outputs, weights, accuracy);
}

GraphBuilder GeGlu() {
  GraphBuilder b;
  b.Value("x", DataType::kFloat32, Rows(64));
  b.MatMulNBits("x", "gate", 128, 64);
  b.MatMulNBits("x", "up", 128, 64);
  b.Add("", "Gelu", {b.Value("gate", DataType::kFloat32)}, {"g"}, {{"approximate", std::string("tanh")}});
  b.Add("", "Mul", {b.Value("g", DataType::kFloat32), b.Value("up", DataType::kFloat32)}, {"m"});
  b.MatMulNBits("m", "down", 64, 128);
  b.Add("", "Add", {b.Value("x", DataType::kFloat32), b.Value("down", DataType::kFloat32)}, {"y"});
  return b;
}

TEST(Plan, GroupsMatMulsOfOneActivationAndFusesGeGlu) {
  GraphBuilder b = GeGlu();
  const Plan plan = MakePlan(b, {"x"}, {"y"});
  ASSERT_EQ(plan.launches.size(), 4u);
  EXPECT_EQ(std::get<MatMul>(plan.launches[0]).w.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<GeluMul>(plan.launches[1]));
  EXPECT_TRUE(std::holds_alternative<MatMul>(plan.launches[2]));
  EXPECT_TRUE(std::holds_alternative<Elementwise>(plan.launches[3]));
}

TEST(Plan, AGeluThatIsAnOutputStaysAlone) {
  GraphBuilder b = GeGlu();
  const Plan plan = MakePlan(b, {"x"}, {"y", "g"});
  EXPECT_TRUE(std::holds_alternative<Gelu>(plan.launches[1]));
}

// Twelve GeGLU layers with residuals. The same numbers must come out when buffers are reused as when every value has
// memory of its own (as an output of the region).
class PlanBuffers : public testing::TestWithParam<Accuracy> {};
INSTANTIATE_TEST_SUITE_P(Accuracies, PlanBuffers, testing::Values(Accuracy::kExact, Accuracy::kFast));

TEST_P(PlanBuffers, AreReusedButNeverWhileLive) {
  GraphBuilder b;
  b.Value("x0", DataType::kFloat32, Rows(64));
  std::vector<std::string> all{"x12"};
  for (int i = 0; i < 12; ++i) {
    const std::string n = std::to_string(i), in = "x" + n;
    b.MatMulNBits(in, "a" + n, 64, 64);
    b.MatMulNBits(in, "b" + n, 64, 64);
    b.Add("", "Gelu", {b.Value("a" + n, DataType::kFloat32)}, {"g" + n}, {{"approximate", std::string("tanh")}});
    b.Add("", "Mul", {b.Value("g" + n, DataType::kFloat32), b.Value("b" + n, DataType::kFloat32)}, {"m" + n});
    b.Add("", "Add", {b.Value(in, DataType::kFloat32), b.Value("m" + n, DataType::kFloat32)},
          {"x" + std::to_string(i + 1)});
    for (const char* name : {"a", "b", "m"}) all.push_back(name + n);
    if (i > 0) all.push_back(in);
  }
  b.RandomWeights();
  Plan reused = MakePlan(b, {"x0"}, {"x12"}, GetParam());
  EXPECT_LE(reused.buffers.size(), 5u);
  Plan apart = MakePlan(b, {"x0"}, all, GetParam());
  EXPECT_EQ(apart.buffers.size(), 0u);

  std::vector<float> x(3 * 64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  BackwardThreads threads;
  MemoryTensors one, other;
  one.inputs = other.inputs = {{x.data(), DataType::kFloat32, {1, 3, 64}}};
  HostProgram(std::move(reused)).Run(one, threads);
  HostProgram(std::move(apart)).Run(other, threads);
  EXPECT_EQ(one.outputs[0], other.outputs[0]);
  EXPECT_NE(one.outputs[0], x);
  EXPECT_EQ(one.shapes[0], (std::vector<int64_t>{1, 3, 64}));
}

// A layer's attention, and its result of the last row alone.
GraphBuilder Attention() {
  GraphBuilder b;
  b.Value("x", DataType::kFloat32, Rows(64));
  b.MatMulNBits("x", "q", 64, 64);
  for (const char* name : {"k", "v"}) b.MatMulNBits("x", name, 32, 64);
  b.Flow("FlowQKV", "q", "k", "v", "a", 2, 1, 32);
  b.MatMulNBits("a", "o", 64, 64);
  b.Add("", "Add", {b.Value("x", DataType::kFloat32), b.Value("o", DataType::kFloat32)}, {"h"});
  b.LastRow("h", "last_h");
  b.MatMulNBits("last_h", "logits", 96, 64);
  b.RandomWeights();
  return b;
}

// 20 rows in blocks of at most 8 are 7, 7 and 6, and the same as three runs of so many rows: bit for bit, in `exact`
// and in `fast`.
TEST_P(PlanBuffers, RowsInBlocksAreRunsOneAfterTheOther) {
  constexpr int64_t kRows = 20;
  GraphBuilder b = Attention();
  const std::vector<std::string> inputs{"x", "past_k", "past_v", "past_len", "shared"},
      outputs{"h", "logits", "present_k", "present_v"};
  std::vector<float> x(kRows * 64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  BackwardThreads threads;
  const bool shared = false;
  const auto bind = [&](MemoryTensors& tensors, int64_t first, int64_t rows, const int64_t& past_len, void* past_k,
                        void* past_v) {
    const std::vector<int64_t> past{1, 1, past_len, 32};
    tensors.inputs = {{x.data() + first * 64, DataType::kFloat32, {1, rows, 64}},
                      {past_k, DataType::kFloat16, past},
                      {past_v, DataType::kFloat16, past},
                      {&past_len, DataType::kInt64, {1}},
                      {&shared, DataType::kBool, {1}}};
  };

  MemoryTensors whole;
  const int64_t none = 0;
  bind(whole, 0, kRows, none, nullptr, nullptr);
  HostProgram(MakePlan(b, inputs, outputs, GetParam()), 8).Run(whole, threads);
  EXPECT_EQ(whole.shapes[0], (std::vector<int64_t>{1, kRows, 64}));
  EXPECT_EQ(whole.shapes[1], (std::vector<int64_t>{1, 1, 96}));
  EXPECT_EQ(whole.shapes[2], (std::vector<int64_t>{1, 1, kRows, 32}));

  HostProgram program(MakePlan(b, inputs, outputs, GetParam()));
  MemoryTensors part;
  std::vector<float> h;
  for (int64_t first = 0; first < kRows;) {
    const int64_t rows = first < 14 ? 7 : 6;
    MemoryTensors next;
    bind(next, first, rows, first, part.outputs[2].data(), part.outputs[3].data());
    program.Run(next, threads);
    h.insert(h.end(), next.outputs[0].begin(), next.outputs[0].end());
    part = std::move(next);
    first += rows;
  }
  EXPECT_EQ(whole.outputs[0], h);
  EXPECT_EQ(whole.outputs[1], part.outputs[1]);
  constexpr std::size_t kBytes = kRows * 32 * 2;  // float16
  for (int i : {2, 3}) EXPECT_EQ(std::memcmp(whole.outputs[i].data(), part.outputs[i].data(), kBytes), 0);
}

// Without h as an output, q and all after the attention are of one row, and the blocks before the last have no query.
TEST_P(PlanBuffers, TheLastRowAloneIsAsOfAllRows) {
  constexpr int64_t kRows = 20, kPast = 3, kSlots = 32;
  GraphBuilder b = Attention();
  const std::vector<std::string> inputs{"x", "past_k", "past_v", "past_len", "shared"};
  const Plan last = MakePlan(b, inputs, {"logits", "present_k", "present_v"});
  const auto rows_of = [&](const Operand& operand) { return last.row_symbols[operand.rows].name; };
  std::string launches;
  for (const Launch& launch : last.launches) {
    if (const auto* product = std::get_if<MatMul>(&launch))
      launches += std::to_string(product->w.size()) + " of " + rows_of(product->a) + ", ";
    if (const auto* flow = std::get_if<FlowAttention>(&launch)) {
      launches += "attention of " + rows_of(flow->q) + " over " + rows_of(flow->k) + ", ";
      EXPECT_FALSE(flow->y.place == flow->q.place && flow->y.index == flow->q.index);
    }
    if (const auto* add = std::get_if<Elementwise>(&launch)) launches += "add of " + rows_of(add->y) + ", ";
    if (std::holds_alternative<LastRow>(launch)) launches += "last, ";
  }
  EXPECT_EQ(launches,
            "last, 1 of =1, 2 of sequence, attention of =1 over sequence, 1 of =1, add of =1, last, 1 of =1, ");

  std::vector<float> x(kRows * 64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  BackwardThreads threads;
  for (const bool shared : {false, true}) {
    std::vector<uint16_t> past_k((shared ? kSlots : kPast) * 32), past_v(past_k.size());
    for (std::size_t i = 0; i < past_k.size(); ++i) {
      past_k[i] = static_cast<uint16_t>(0x3400 + i);  // 0.25 and more
      past_v[i] = static_cast<uint16_t>(0xb800 + 2 * i);
    }
    const int64_t past_len = kPast;
    const std::vector<int64_t> past{1, 1, shared ? kSlots : kPast, 32};
    const std::vector<TensorView> tensors{{x.data(), DataType::kFloat32, {1, kRows, 64}},
                                          {past_k.data(), DataType::kFloat16, past},
                                          {past_v.data(), DataType::kFloat16, past},
                                          {&past_len, DataType::kInt64, {1}},
                                          {&shared, DataType::kBool, {1}}};
    MemoryTensors all;
    all.inputs = tensors;
    HostProgram(MakePlan(b, inputs, {"logits", "present_k", "present_v", "h"}, GetParam())).Run(all, threads);
    for (const int64_t block_rows : {kRows, int64_t{8}}) {
      MemoryTensors one;
      one.inputs = tensors;
      HostProgram(MakePlan(b, inputs, {"logits", "present_k", "present_v"}, GetParam()), block_rows).Run(one, threads);
      for (int i : {1, 2}) {
        EXPECT_EQ(one.shapes[i], all.shapes[i]);
        const std::size_t bytes = static_cast<std::size_t>(one.shapes[i][2] * 32 * 2);  // float16
        EXPECT_EQ(std::memcmp(one.outputs[i].data(), all.outputs[i].data(), bytes), 0);
      }
      ASSERT_EQ(one.outputs[0].size(), 96u);
      for (std::size_t i = 0; i < 96; ++i)
        EXPECT_NEAR(one.outputs[0][i], all.outputs[0][i], 1e-5) << "shared " << shared << " blocks of " << block_rows;
    }
  }
}

TEST(Plan, AnAttentionThatForgetsItsKeysSeesAllRowsAtOnce) {
  GraphBuilder b = Attention();
  const std::vector<std::string> inputs{"x", "past_k", "past_v", "past_len", "shared"};
  EXPECT_EQ(BlockSymbol(MakePlan(b, inputs, {"h"})), -1);
  EXPECT_EQ(BlockSymbol(MakePlan(b, inputs, {"logits"})), -1);
  EXPECT_EQ(BlockSymbol(MakePlan(b, inputs, {"h", "present_k", "present_v"})), 0);
}

TEST(Plan, RunRefusesInputsItWasNotMadeFor) {
  GraphBuilder b = GeGlu();
  HostProgram program{MakePlan(b, {"x"}, {"y"})};
  BackwardThreads threads;
  std::vector<float> x(2 * 64);
  const std::pair<std::vector<int64_t>, const char*> bad[] = {
      {{1, 2, 32}, "input x: found shape [1,2,32], needed [1,rows,64]"},
      {{2, 1, 64}, "input x: found shape [2,1,64], needed [1,rows,64]"},
      {{1, 0, 64}, "input x: found no tokens, shape [1,0,64]; pass at least one"},
  };
  for (const auto& [shape, message] : bad) {
    MemoryTensors tensors;
    tensors.inputs = {{x.data(), DataType::kFloat32, shape}};
    try {
      program.Run(tensors, threads);
      ADD_FAILURE() << message;
    } catch (const Error& e) {
      EXPECT_STREQ(e.what(), message);
      EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    }
  }
}

// Blocks are padded to 256 columns, so [32, 256] and [32, 32] are the same bytes: each node must get its own matrix.
TEST(Plan, OneWeightInTwoShapesIsTwoMatrices) {
  GraphBuilder b;
  b.Value("x", DataType::kFloat32, Rows(256));
  b.Value("z", DataType::kFloat32, Rows(32));
  b.MatMulNBits("x", "y", 32, 256);
  Node& narrow = b.MatMulNBits("z", "v", 32, 32);
  narrow.inputs[1] = b.graph.nodes[0].inputs[1];
  const Plan plan = MakePlan(b, {"x", "z"}, {"y", "v"});
  EXPECT_EQ(std::get<MatMul>(plan.launches[0]).w[0]->shape.K, 256);
  EXPECT_EQ(std::get<MatMul>(plan.launches[1]).w[0]->shape.K, 32);
}

TEST(Plan, AttentionsOfDifferentPastsHaveTheirOwnRotations) {
  GraphBuilder b;
  for (const char* name : {"q", "k", "v"}) b.Value(name, DataType::kFloat32, Rows(32));
  b.Flow("FlowQKV", "q", "k", "v", "a", 1, 1, 32);
  Node& second = b.Flow("FlowQKV", "q", "k", "v", "b", 1, 1, 32);
  second.inputs[7] = b.Value("other_past_len", DataType::kInt64, {{1, ""}});
  const Plan plan =
      MakePlan(b, {"q", "k", "v", "past_k", "past_v", "past_len", "shared", "other_past_len"}, {"a", "b"});
  EXPECT_NE(std::get<FlowAttention>(plan.launches[0]).rope, std::get<FlowAttention>(plan.launches[1]).rope);
}

TEST(Plan, WeightBytesThatDoNotFitAreRefused) {
  GraphBuilder b = GeGlu();
  for (Value& value : b.graph.values)
    if (value.name == "w_gate") value.constant.bytes -= 1;
  EXPECT_THROW(MakePlan(b, {"x"}, {"y"}), Error);
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
