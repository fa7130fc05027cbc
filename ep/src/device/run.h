// The tensors of one run of a plan, in and out. compute.cc implements them over ORT's kernel context; tests implement
// them over plain vectors.
#pragma once

#include <cstdint>
#include <vector>

#include "ep/src/graph.h"

namespace ryzen_npu_gemma::ep {

struct TensorView {
  const void* data = nullptr;
  DataType type = DataType::kOther;
  std::vector<int64_t> shape;

  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

class RunTensors {
 public:
  virtual ~RunTensors() = default;
  virtual TensorView Input(int index) = 0;
  virtual void* Output(int index, const std::vector<int64_t>& shape) = 0;  // allocates it, or finds the caller's buffer
};

}  // namespace ryzen_npu_gemma::ep
