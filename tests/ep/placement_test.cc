// The placement report: one line a node, tab-separated whatever the names hold, written whole or not at all.
#include "ep/src/placement.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "ep/src/error.h"
#include "tests/ep/graph_builder.h"

namespace ryzen_npu_gemma::ep {
namespace {

GraphBuilder TwoNodes() {
  GraphBuilder b;
  b.Value("x", DataType::kFloat32, {{1, ""}, {-1, "sequence"}, {64, ""}});
  b.MatMulNBits("x", "y", 32, 64).name = "tab\tand\nline";
  b.Add("", "Tanh", {b.Value("y", DataType::kFloat32)}, {"z"});
  return b;
}

TEST(Placement, ReportHasOneLineANode) {
  const auto path = std::filesystem::temp_directory_path() / ("placement." + std::to_string(::getpid()) + ".tsv");
  const GraphBuilder b = TwoNodes();
  WritePlacementReport(path.string(), Placements().Update(b.graph, Decide(b.graph)), {"no NPU", "looked\there"});
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::filesystem::remove(path);
  EXPECT_EQ(text,
            "domain\top_type\tname\tdevice\treason\tvalue\tmacs_per_token\n"
            "ryzen.npu.gemma\tMatMulNBits\ttab and line\thost\tno NPU\tlooked here\t2048\n"
            "\tTanh\tTanh1\tcpu\toperator is not one of the EP's\tTanh\t0\n");
}

TEST(Placement, UnwritablePathIsAnErrorAndLeavesNothing) {
  const auto folder = std::filesystem::temp_directory_path() / ("placement." + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const GraphBuilder b = TwoNodes();
  EXPECT_THROW(WritePlacementReport((folder / "no" / "such" / "file").string(),
                                    Placements().Update(b.graph, Decide(b.graph)), {}),
               Error);
  EXPECT_THROW(WritePlacementReport(folder.string(), Placements().Update(b.graph, Decide(b.graph)), {}),
               Error);  // a folder is in the way
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove(folder);
}

TEST(Placement, SummaryCountsNodesAndWork) {
  const GraphBuilder b = TwoNodes();
  EXPECT_EQ(PlacementSummary(Placements().Update(b.graph, Decide(b.graph))),
            "takes 1 of 2 nodes, 100.0 % of the multiply-adds of weights");
}

// A refused function node that onnxruntime has replaced by its body keeps its line, reason and work.
TEST(Placement, ARefusedNodeOutlivesItsInlining) {
  GraphBuilder before = TwoNodes();
  before.graph.nodes[0].attributes["block_size"] = int64_t{64};
  Placements placements;
  EXPECT_EQ(placements.Update(before.graph, Decide(before.graph)).size(), 2u);
  GraphBuilder after;
  after.Value("x", DataType::kFloat32, {{1, ""}, {-1, "sequence"}, {64, ""}});
  after.Add("", "Scan", {after.Value("x", DataType::kFloat32)}, {"y"});
  after.Add("", "Tanh", {after.Value("y", DataType::kFloat32)}, {"z"});
  for (int look = 0; look < 2; ++look) {
    const std::vector<Placement> found = placements.Update(after.graph, Decide(after.graph));
    ASSERT_EQ(found.size(), 3u);
    EXPECT_EQ(found[0].op_type, "MatMulNBits");
    EXPECT_EQ(found[0].decision.reason, "block_size is not 32");
    EXPECT_EQ(found[0].decision.macs_per_token, 32 * 64);
  }
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
