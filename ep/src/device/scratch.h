// Memory of one run that grows and is kept for the next one.
#pragma once

#include "kernels/aligned_buffer.h"

namespace ryzen_npu_gemma::ep {

class Scratch {
 public:
  // At least `count` elements of T; their old contents are lost when it has to grow.
  template <class T>
  T* Reserve(int64_t count) {
    const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (buffer_.size() < bytes) buffer_ = kernels::AlignedBuffer(bytes);
    return reinterpret_cast<T*>(buffer_.data());
  }

 private:
  kernels::AlignedBuffer buffer_;
};

}  // namespace ryzen_npu_gemma::ep
