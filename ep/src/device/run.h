// What one run of a plan needs from outside: tensors in and out, and threads. compute.cc implements it over ORT's
// kernel context; tests implement it over plain vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
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

class Threads {
 public:
  virtual ~Threads() = default;

  // Calls fn(i) for every i < n, on several threads when there are any. fn must not throw and must not wait for another
  // i.
  template <class F>
  void For(int64_t n, F&& fn) {
    if (n == 1) return fn(int64_t{0});
    Run(
        static_cast<std::size_t>(n),
        [](void* f, std::size_t i) { (*static_cast<std::remove_reference_t<F>*>(f))(static_cast<int64_t>(i)); }, &fn);
  }

 private:
  virtual void Run(std::size_t n, void (*fn)(void*, std::size_t), void* arg) = 0;
};

}  // namespace ryzen_npu_gemma::ep
