// Which pages packed weights are given, by how long a touch takes. The kernel's own word on a mapping is in smaps:
// "hg", huge pages are wished for, or "nh", they are not.
#include "ep/src/weight_memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace ryzen_npu_gemma::ep {
namespace {

constexpr std::size_t kPage = WeightMemory::kHugePage;
constexpr std::size_t kPages = 16;

bool SystemHasHugePages() { return std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled").is_open(); }

// "hg", "nh" or "", of the mapping that holds `address`.
std::string Wish(const uint8_t* address) {
  std::ifstream smaps("/proc/self/smaps");
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    if (std::istringstream range(line); range >> std::hex >> begin >> dash >> end && dash == '-')
      inside = begin <= at && at < end;
    else if (inside && line.starts_with("VmFlags:"))
      return line.find(" hg") != std::string::npos ? "hg" : line.find(" nh") != std::string::npos ? "nh" : "";
  }
  return "no mapping";
}

class WeightMemoryTest : public testing::Test {
 protected:
  double takes_ms_ = 0.1;
  std::vector<uint8_t*> touched_;
  WeightMemory memory_{[this](uint8_t* page) {
    touched_.push_back(page);
    return takes_ms_;
  }};

  void SetUp() override {
    if (!SystemHasHugePages()) GTEST_SKIP() << "this kernel has no transparent huge pages";
  }
};

TEST_F(WeightMemoryTest, EveryHugePageIsTouchedOnceHoweverItsBytesAreAskedFor) {
  const auto slab = memory_.Slab(kPages * kPage);
  const std::size_t cuts[] = {0, 100, kPage, kPage + 1, 3 * kPage - 1, 3 * kPage, kPages * kPage};
  for (std::size_t i = 1; i < std::size(cuts); ++i)
    memory_.Ready(*slab, slab->data() + cuts[i - 1], cuts[i] - cuts[i - 1]);
  ASSERT_EQ(touched_.size(), kPages);
  for (std::size_t i = 0; i < kPages; ++i) EXPECT_EQ(touched_[i], slab->data() + i * kPage);
  EXPECT_EQ(Wish(slab->data()), "hg");
}

TEST_F(WeightMemoryTest, APartialPageAtTheEndIsLeftToWhoWritesIt) {
  const auto slab = memory_.Slab(kPage + 100);
  memory_.Ready(*slab, slab->data(), slab->size());
  EXPECT_EQ(touched_.size(), 1u);
}

TEST_F(WeightMemoryTest, ASlowHugePageIsTheLastUntilWhatIsWrittenMayBecomeOne) {
  const auto slab = memory_.Slab(kPages * kPage);
  memory_.Ready(*slab, slab->data(), kPage);
  EXPECT_EQ(Wish(slab->data()), "hg");
  takes_ms_ = 4;
  memory_.Ready(*slab, slab->data() + kPage, 1);
  EXPECT_EQ(Wish(slab->data() + 2 * kPage), "nh");
  takes_ms_ = 0.6;
  const auto next = memory_.Slab(kPages * kPage);
  EXPECT_EQ(Wish(next->data()), "nh");
  memory_.Ready(*next, next->data(), next->size());
  memory_.Written(*next, 3 * kPage + 100);
  EXPECT_EQ(Wish(next->data() + 3 * kPage - 1), "hg");
  EXPECT_EQ(Wish(next->data() + 3 * kPage), "nh");
}

TEST_F(WeightMemoryTest, WhereSmallPagesAreSlowTooTheyAreHugeAndNotTimed) {
  takes_ms_ = 4;
  const auto slab = memory_.Slab(kPages * kPage);
  memory_.Ready(*slab, slab->data(), slab->size());
  EXPECT_EQ(touched_.size(), 2u);
  EXPECT_EQ(Wish(slab->data()), "hg");
  const auto next = memory_.Slab(kPages * kPage);
  memory_.Ready(*next, next->data(), next->size());
  EXPECT_EQ(touched_.size(), 2u);
  EXPECT_EQ(Wish(next->data()), "hg");
}

TEST_F(WeightMemoryTest, TheNextLoadTriesHugePagesAgain) {
  takes_ms_ = 4;
  auto slab = memory_.Slab(kPages * kPage);
  memory_.Ready(*slab, slab->data(), 1);
  ASSERT_EQ(Wish(slab->data()), "nh");
  slab.reset();
  slab = memory_.Slab(kPages * kPage);
  EXPECT_EQ(Wish(slab->data()), "hg");
}

TEST_F(WeightMemoryTest, ARealTouchKeepsWhatIsThere) {
  WeightMemory memory;
  const auto slab = memory.Slab(kPages * kPage);
  slab->data()[5] = 7;
  memory.Ready(*slab, slab->data(), slab->size());
  EXPECT_EQ(slab->data()[5], 7);
}

}  // namespace
}  // namespace ryzen_npu_gemma::ep
