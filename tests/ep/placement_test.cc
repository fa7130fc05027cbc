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
  WritePlacementReport(path.string(), b.graph, Decide(b.graph), {"no NPU", "looked\there"});
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
  EXPECT_THROW(WritePlacementReport((folder / "no" / "such" / "file").string(), b.graph, Decide(b.graph), {}), Error);
  EXPECT_THROW(WritePlacementReport(folder.string(), b.graph, Decide(b.graph), {}), Error);  // a folder is in the way
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove(folder);
}

TEST(Placement, SummaryCountsNodesAndWork) {
  const GraphBuilder b = TwoNodes();
  EXPECT_EQ(PlacementSummary(Decide(b.graph)), "takes 1 of 2 nodes, 100.0 % of the multiply-adds of weights");
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
