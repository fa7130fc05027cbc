// Regions: as few as possible, and none that would close a cycle when it is fused.
#include "ep/src/partition.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/ep/graph_builder.h"

namespace ryzen_npu_gemma::ep {
namespace {

Graph Chain(const std::vector<std::pair<std::vector<std::string>, std::string>>& nodes) {
  GraphBuilder b;
  for (const auto& [inputs, output] : nodes) {
    std::vector<int> values;
    for (const auto& input : inputs) values.push_back(b.Value(input, DataType::kFloat32));
    b.Add("", "Op", values, {output});
  }
  return b.graph;
}

using Regions = std::vector<std::vector<int>>;

TEST(Partition, OneRegionWhenUnclaimedNodesOnlyFeedIt) {
  const Graph graph = Chain({{{"in"}, "shape"}, {{"in"}, "a"}, {{"a", "shape"}, "b"}, {{"b"}, "c"}});
  EXPECT_EQ(Partition(graph, {false, true, true, true}), (Regions{{1, 2, 3}}));
}

TEST(Partition, SplitsWhereAPathLeavesAndComesBack) {
  const Graph graph = Chain({{{"in"}, "a"}, {{"a"}, "foreign"}, {{"foreign", "a"}, "b"}, {{"a"}, "c"}});
  EXPECT_EQ(Partition(graph, {true, false, true, true}), (Regions{{0, 3}, {2}}));
}

TEST(Partition, NothingClaimedIsNoRegion) { EXPECT_TRUE(Partition(Chain({{{"in"}, "a"}}), {false}).empty()); }

// Property: over random graphs every claimed node is in one region, and no path leaves a region and returns.
TEST(Partition, RandomGraphsHaveNoCycleBetweenRegions) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    const int count = 2 + static_cast<int>(random() % 14);
    std::vector<std::pair<std::vector<std::string>, std::string>> nodes;
    std::vector<bool> claimed;
    for (int i = 0; i < count; ++i) {
      std::vector<std::string> inputs;
      for (int j = 0; j < i; ++j)
        if (random() % 3 == 0) inputs.push_back(std::string("v").append(std::to_string(j)));
      nodes.push_back({inputs, std::string("v").append(std::to_string(i))});
      claimed.push_back(random() % 3 != 0);
    }
    const Graph graph = Chain(nodes);
    const Regions regions = Partition(graph, claimed);
    std::vector<int> region_of(static_cast<std::size_t>(count), -1);
    for (std::size_t r = 0; r < regions.size(); ++r)
      for (int i : regions[r]) {
        EXPECT_TRUE(claimed[i]);
        EXPECT_EQ(region_of[i], -1);
        region_of[i] = static_cast<int>(r);
      }
    for (int i = 0; i < count; ++i) EXPECT_EQ(claimed[i], region_of[i] >= 0);
    // left[i]: regions that node i depends on through a node outside of them.
    std::vector<std::vector<bool>> reached(count, std::vector<bool>(regions.size())), left = reached;
    for (int i = 0; i < count; ++i)
      for (int input : graph.nodes[i].inputs) {
        const int p = graph.values[input].producer;
        if (p < 0) continue;
        for (std::size_t r = 0; r < regions.size(); ++r) {
          const bool depends = reached[p][r] || region_of[p] == static_cast<int>(r);
          reached[i][r] = reached[i][r] || depends;
          left[i][r] = left[i][r] || left[p][r] || (depends && region_of[p] != static_cast<int>(r));
        }
      }
    for (int i = 0; i < count; ++i) {
      if (region_of[i] >= 0) {
        EXPECT_FALSE(left[i][region_of[i]]) << "round " << round << " node " << i;
      }
    }
  }
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
