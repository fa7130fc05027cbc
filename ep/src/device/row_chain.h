// A chain of launches that go row by row, run as one: a thread takes a few rows at a time through all of its steps, so
// that what a step writes is in the thread's L1 cache when the next one reads it, and threads wait for each other once
// a chain, not once a step. What a row becomes does not depend on the others: it is the same, bit for bit, as of one
// step after the other.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "ep/src/device/host_matmul.h"
#include "ep/src/device/threads.h"
#include "ep/src/plan.h"

namespace ryzen_npu_gemma::ep {

// An operand's rows [rows, width].
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t width = 0;
  bool passing = false;  // nobody reads them after the chain: all of a thread's rows are written over its first ones
};

// A launch with its memory.
struct RowStep {
  std::variant<const Embed*, const RmsNorm*, const Gelu*, const GeluMul*, const Elementwise*, const MatMul*> launch;
  Rows<const float> a = {}, b = {};  // what it reads,
  Rows<float> y = {};                // and writes
  const int64_t* ids = nullptr;      // Embed reads these
  ProductInput quantized = {};       // MatMul: the step is to quantise its activation, into this
};

void RunChain(const std::vector<RowStep>& steps, int64_t rows, Threads& threads);

// What is done, in order: "norm, add, norm, quantise".
std::string NameOf(const std::vector<RowStep>& steps);

}  // namespace ryzen_npu_gemma::ep
