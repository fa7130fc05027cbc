// Packed weight matrices, one copy in the process: sessions of the same model (prefill and decode, several clients)
// share them.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "ep/src/graph.h"
#include "ep/src/weight_memory.h"
#include "kernels/aligned_buffer.h"
#include "kernels/matmul_nbits/matmul_nbits.h"

namespace ryzen_npu_gemma::ep {

struct PackedMatrix {
  kernels::NBitsShape shape;
  std::shared_ptr<kernels::AlignedBuffer> slab;  // what `data` lies in
  uint8_t* data = nullptr;
};

class WeightStore {
 public:
  // The packed form of constant `w`, which holds the Q4NX blocks of an [N, K] matrix. A weight in an external data file
  // is known by its place in it (file identity, size and time of change), read from it and packed once for all sessions
  // that live; a weight that is in no file that can be opened is packed from memory, for this caller alone. Throws
  // Error when the bytes are not what the shape needs.
  std::shared_ptr<const PackedMatrix> Get(const Value& w, const kernels::NBitsShape& shape);

 private:
  class File;
  std::shared_ptr<const PackedMatrix> Pack(const Value& w, const kernels::NBitsShape& shape, const File& file);
  PackedMatrix Place(const kernels::NBitsShape& shape);

  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<const PackedMatrix>> live_;
  WeightMemory memory_;
  std::weak_ptr<kernels::AlignedBuffer> slab_;  // the one that is being filled
  std::size_t used_ = 0;                        // bytes of it
};

}  // namespace ryzen_npu_gemma::ep
