#include "ep/src/weights.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "ep/src/error.h"
#include "kernels/q4nx.h"

namespace ryzen_npu_gemma::ep {
namespace {

// Memory that no matrix has touched yet is not taken from the machine.
constexpr std::size_t kSlabBytes = std::size_t{32} << 20;
constexpr int64_t kReadBytes = 256 << 10;           // at a time: stays in L2 until it is packed
constexpr int64_t kWorkerBytes = int64_t{1} << 20;  // less is not worth a thread

}  // namespace

// The file that a constant lies in. Its bytes are read from here and not through onnxruntime's mapping: the pages of a
// mapping count as the process's memory, a second copy of the weights.
class WeightStore::File {
 public:
  explicit File(const std::string& path) {
    if (path.empty()) return;
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ >= 0 && ::fstat(fd_, &stat_) != 0) Close();
  }
  ~File() { Close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return fd_ >= 0; }

  // Names the bytes at `offset` by where they lie.
  std::string Key(int64_t offset, const kernels::NBitsShape& shape) const {
    std::string key;
    for (const auto part :
         {static_cast<int64_t>(stat_.st_dev), static_cast<int64_t>(stat_.st_ino), static_cast<int64_t>(stat_.st_size),
          static_cast<int64_t>(stat_.st_mtim.tv_sec), static_cast<int64_t>(stat_.st_mtim.tv_nsec), offset, shape.N,
          shape.K, static_cast<int64_t>(shape.bits), static_cast<int64_t>(shape.parameters)})
      key += std::to_string(part) + ":";
    return key;
  }

  bool Read(int64_t offset, int64_t bytes, uint8_t* to) const {
    while (bytes > 0) {
      const ssize_t got = ::pread(fd_, to, static_cast<std::size_t>(bytes), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      to += got;
      offset += got;
      bytes -= got;
    }
    return true;
  }

 private:
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  int fd_ = -1;
  struct stat stat_ = {};
};

std::shared_ptr<const PackedMatrix> WeightStore::Get(const Value& w, const kernels::NBitsShape& shape) {
  const std::size_t want = static_cast<std::size_t>(q4nx::BlockCount(shape.N, shape.K)) * q4nx::BlockBytes(shape.bits);
  if (!w.constant.data || w.constant.bytes != want)
    throw Error(ErrorCode::kInvalidArgument, "weight " + w.name + ": found " + std::to_string(w.constant.bytes) +
                                                 " bytes of Q4NX blocks, " + std::to_string(want) +
                                                 " are needed; convert the model again");
  const File file(w.external.path);
  std::lock_guard lock(mutex_);
  if (!file.is_open()) return Pack(w, shape, file);
  const std::string key = file.Key(w.external.offset, shape);
  std::erase_if(live_, [](const auto& entry) { return entry.second.expired(); });
  if (auto found = live_[key].lock()) return found;
  auto packed = Pack(w, shape, file);
  live_[key] = packed;
  return packed;
}

std::shared_ptr<const PackedMatrix> WeightStore::Pack(const Value& w, const kernels::NBitsShape& shape,
                                                      const File& file) {
  auto packed = std::make_shared<PackedMatrix>(Place(shape));
  const int64_t row_bytes = q4nx::BlockCount(q4nx::kBlockRows, shape.K) * q4nx::BlockBytes(shape.bits);
  const int64_t block_rows = (shape.N + q4nx::kBlockRows - 1) / q4nx::kBlockRows;
  constexpr int64_t kStrips = q4nx::kBlockRows / kernels::kStripRows;  // in a row of blocks
  const int64_t workers = std::clamp<int64_t>(block_rows * row_bytes / kWorkerBytes, 1,
                                              std::max<int64_t>(1, std::thread::hardware_concurrency()));
  const int64_t step = std::max<int64_t>(1, kReadBytes / row_bytes);
  std::vector<uint8_t> buffers(file.is_open() ? static_cast<std::size_t>(workers * step * row_bytes) : 0);
  std::atomic<bool> complete = true;
  const auto pack = [&](int64_t worker) {
    const int64_t begin = block_rows * worker / workers, end = block_rows * (worker + 1) / workers;
    for (int64_t row = begin; row < end; row += step) {
      const int64_t rows = std::min(step, end - row);
      const uint8_t* blocks = static_cast<const uint8_t*>(w.constant.data) + row * row_bytes;
      if (file.is_open()) {
        uint8_t* buffer = buffers.data() + worker * step * row_bytes;
        blocks = buffer;
        if (!file.Read(w.external.offset + row * row_bytes, rows * row_bytes, buffer)) {
          complete = false;
          return;
        }
      }
      const int64_t N = std::min(shape.N - row * q4nx::kBlockRows, rows * q4nx::kBlockRows);
      const kernels::NBitsShape part{N, shape.K, shape.bits, shape.parameters};
      uint8_t* strips = packed->data + row * kStrips * shape.strip_bytes();
      memory_.Ready(*packed->slab, strips, static_cast<std::size_t>(part.packed_bytes()));
      kernels::PackStrips(part, blocks, 0, part.strips(), strips);
    }
  };
  std::vector<std::jthread> team;
  for (int64_t i = 1; i < workers; ++i) team.emplace_back([&pack, i] { pack(i); });
  pack(0);
  team.clear();  // joins
  if (!complete)
    throw Error(ErrorCode::kFail, "weight " + w.name + ": " + w.external.path + " could not be read at byte " +
                                      std::to_string(w.external.offset) + ", or is shorter than the model says");
  memory_.Written(*packed->slab, used_);
  return packed;
}

PackedMatrix WeightStore::Place(const kernels::NBitsShape& shape) {
  const auto bytes = static_cast<std::size_t>(shape.packed_bytes());
  std::shared_ptr<kernels::AlignedBuffer> slab = slab_.lock();
  if (!slab || slab->size() - used_ < bytes) {
    slab = memory_.Slab(std::max(bytes, kSlabBytes));
    slab_ = slab;
    used_ = 0;
  }
  uint8_t* data = slab->data() + used_;
  constexpr std::size_t kLine = kernels::AlignedBuffer::kAlignment;
  used_ = std::min(slab->size(), used_ + (bytes + kLine - 1) / kLine * kLine);
  return {shape, std::move(slab), data};
}

}  // namespace ryzen_npu_gemma::ep
