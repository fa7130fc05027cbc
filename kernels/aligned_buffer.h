// A heap block aligned to a cache line, for packed weights and scratch. Uninitialised; movable, not copyable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace ryzen_npu_gemma::kernels {

class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes)
      : data_(static_cast<uint8_t*>(::operator new(bytes, std::align_val_t{kAlignment}))), size_(bytes) {}

  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const { ::operator delete(p, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace ryzen_npu_gemma::kernels
