// Runs a plan on the CPU with the SIMD kernels. A program is made once a session and may be run from several threads at
// once: every run takes a workspace of its own from a small pool.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "ep/src/device/row_blocks.h"
#include "ep/src/device/run.h"
#include "ep/src/device/stages.h"
#include "ep/src/device/threads.h"
#include "ep/src/launch_times.h"
#include "ep/src/plan.h"

namespace ryzen_npu_gemma::ep {

class HostProgram {
 public:
  explicit HostProgram(Plan plan, int64_t block_rows = kBlockRows);
  ~HostProgram();

  // Throws Error when an input does not have the shape that the plan was made for, or a cache is too small.
  // times: null, or what becomes the times of its launches.
  void Run(RunTensors& tensors, Threads& threads, LaunchTimes* times = nullptr);

  const std::vector<std::string>& launch_names() const { return plan_.launch_names; }

 private:
  struct Workspace;
  struct Execution;
  std::unique_ptr<Workspace> TakeWorkspace();
  void ReturnWorkspace(std::unique_ptr<Workspace> workspace);

  const Plan plan_;
  const std::vector<Stage> stages_;
  const std::vector<std::vector<MemoryRange>> next_weights_;  // by launch: of the product after it
  const int64_t block_rows_;
  const int block_symbol_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace ryzen_npu_gemma::ep
