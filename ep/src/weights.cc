#include "ep/src/weights.h"

#include <sys/stat.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "ep/src/error.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::ep {
namespace {

// Memory that no matrix has touched yet is not taken from the machine.
constexpr std::size_t kSlabBytes = std::size_t{32} << 20;

// Names the bytes by where they lie; empty for a weight that is not in a file of its own.
std::string FileKey(const Value& w, const kernels::NBitsShape& shape) {
  struct stat st{};
  if (w.external.path.empty() || ::stat(w.external.path.c_str(), &st) != 0) return "";
  std::string key;
  for (const auto part :
       {static_cast<int64_t>(st.st_dev), static_cast<int64_t>(st.st_ino), static_cast<int64_t>(st.st_size),
        static_cast<int64_t>(st.st_mtim.tv_sec), static_cast<int64_t>(st.st_mtim.tv_nsec), w.external.offset, shape.N,
        shape.K, static_cast<int64_t>(shape.bits)})
    key += std::to_string(part) + ":";
  return key;
}

}  // namespace

std::shared_ptr<const PackedMatrix> WeightStore::Get(const Value& w, const kernels::NBitsShape& shape) {
  const std::size_t want = static_cast<std::size_t>(q4nx::BlockCount(shape.N, shape.K)) * q4nx::BlockBytes(shape.bits);
  if (!w.constant.data || w.constant.bytes != want)
    throw Error(ErrorCode::kInvalidArgument, "weight " + w.name + ": found " + std::to_string(w.constant.bytes) +
                                                 " bytes of Q4NX blocks, " + std::to_string(want) +
                                                 " are needed; convert the model again");
  const std::string key = FileKey(w, shape);
  std::lock_guard lock(mutex_);
  if (key.empty()) return Pack(w, shape);
  std::erase_if(live_, [](const auto& entry) { return entry.second.expired(); });
  if (auto found = live_[key].lock()) return found;
  auto packed = Pack(w, shape);
  live_[key] = packed;
  return packed;
}

std::shared_ptr<const PackedMatrix> WeightStore::Pack(const Value& w, const kernels::NBitsShape& shape) {
  const auto* blocks = static_cast<const uint8_t*>(w.constant.data);
  auto packed = std::make_shared<PackedMatrix>(Place(shape));
  const int64_t strips = shape.strips();
  const int64_t workers =
      std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, std::max<int64_t>(1, strips / 256));
  std::vector<std::jthread> team;
  for (int64_t i = 0; i < workers; ++i)
    team.emplace_back(
        [&, i] { kernels::PackStrips(shape, blocks, strips * i / workers, strips * (i + 1) / workers, packed->data); });
  team.clear();  // joins
  return packed;
}

PackedMatrix WeightStore::Place(const kernels::NBitsShape& shape) {
  const auto bytes = static_cast<std::size_t>(shape.packed_bytes());
  std::shared_ptr<kernels::AlignedBuffer> slab = slab_.lock();
  if (!slab || slab->size() - used_ < bytes) {
    slab = std::make_shared<kernels::AlignedBuffer>(std::max(bytes, kSlabBytes));
    slab_ = slab;
    used_ = 0;
  }
  uint8_t* data = slab->data() + used_;
  constexpr std::size_t kLine = kernels::AlignedBuffer::kAlignment;
  used_ = std::min(slab->size(), used_ + (bytes + kLine - 1) / kLine * kLine);
  return {shape, std::move(slab), data};
}

}  // namespace ryzen_npu_gemma::ep
