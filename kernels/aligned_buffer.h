// A heap block for packed weights and scratch, aligned to a cache line. Uninitialised; movable, not copyable.
// A large one asks for huge pages (one core of a Zen 4 server reads 33 GB/s through them, 20..25 through 4 KB pages).
#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace ryzen_npu_gemma::kernels {

class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes) : size_(bytes) {
    const std::align_val_t alignment{bytes < kHugePage ? kAlignment : kHugePage};
    data_ = {static_cast<uint8_t*>(::operator new(bytes, alignment)), Free{alignment}};
#ifdef __linux__
    if (bytes >= kHugePage) madvise(data_.get(), bytes, MADV_HUGEPAGE);  // a wish: refusal changes nothing but speed
#endif
  }

  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;

  struct Free {
    std::align_val_t alignment;
    void operator()(uint8_t* p) const { ::operator delete(p, alignment); }
  };
  std::unique_ptr<uint8_t, Free> data_{nullptr, Free{std::align_val_t{kAlignment}}};
  std::size_t size_ = 0;
};

}  // namespace ryzen_npu_gemma::kernels
