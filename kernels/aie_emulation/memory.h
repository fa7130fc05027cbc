// Loads, stores, vector iterators and block-vector streams.
#pragma once

#include "kernels/aie_emulation/accum.h"

namespace aie {

// AIE API, Memory (Data Loading And Vector Alignment): an access of 128, 256, 512 bits is aligned to as many on XDNA 2;
// vector_decl_align is "a boundary that works for any vector size".
template <class T, unsigned N>
constexpr unsigned vector_ldst_align_v = std::min(64u, std::max(16u, N* aie_emulation::kBits<T> / 8));
constexpr unsigned vector_decl_align = 64;

// AIE API, Memory, load_v: out[i] = ptr[i]; the pointer "is assumed to meet the alignment requirements for a vector
// load of this size", else the behaviour is undefined: here it works, is counted and reported. One instruction for each
// 512 bits.
template <unsigned N, class T>
auto load_v(const T* pointer) {
  using V = vector<std::remove_cv_t<T>, N>;
  aie_emulation::CheckAlignment(pointer, vector_ldst_align_v<T, N>);
  aie_emulation::CountLoad(aie_emulation::Issues(V::bits()));
  V v;
  v.load_bytes(reinterpret_cast<const uint8_t*>(pointer));
  v.origin = aie_emulation::Origin::kLoaded;
  return v;
}

// AIE API, Memory, store_v: ptr[i] = v[i], aligned as for load_v.
template <class T, unsigned N>
T* store_v(T* pointer, const vector<T, N>& v) {
  aie_emulation::CheckAlignment(pointer, vector_ldst_align_v<T, N>);
  // vst.conv and vst.srs: the store that follows a narrowing of the same lanes is the same instruction.
  if (v.origin != aie_emulation::Origin::kNarrowed) aie_emulation::CountStore(aie_emulation::Issues(v.bits()));
  v.store_bytes(reinterpret_cast<uint8_t*>(pointer));
  return pointer;
}

// AIE API, Memory, load_unaligned_v, store_unaligned_v: the pointer is aligned to T, or to so many elements as the last
// argument says. "May incur additional overhead": counted as two aligned accesses and a shift.
template <unsigned N, class T>
auto load_unaligned_v(const T* pointer, unsigned = 1) {
  using V = vector<std::remove_cv_t<T>, N>;
  aie_emulation::CountLoad(2 * aie_emulation::Issues(V::bits()));
  aie_emulation::CountMove(aie_emulation::Issues(V::bits()));
  V v;
  v.load_bytes(reinterpret_cast<const uint8_t*>(pointer));
  return v;
}
template <class T, unsigned N>
T* store_unaligned_v(T* pointer, const vector<T, N>& v, unsigned = 1) {
  aie_emulation::CountStore(2 * aie_emulation::Issues(v.bits()));
  aie_emulation::CountMove(aie_emulation::Issues(v.bits()));
  v.store_bytes(reinterpret_cast<uint8_t*>(pointer));
  return pointer;
}

// AIE API, Memory (Iterators): a random access iterator over consecutive vectors, which begin_vector and its const and
// restrict forms give. Dereferencing loads, assigning to what it gives stores. (Not here: it[offset].)
template <class T, unsigned N>
class vector_iterator {
 public:
  using element = std::remove_cv_t<T>;
  class reference {
   public:
    // AIE API, Memory (Iterators): the vector in memory.
    explicit reference(T* pointer) : pointer_(pointer) {}
    operator vector<element, N>() const { return load_v<N>(pointer_); }
    template <class V>
    reference& operator=(const V& v) {
      store_v(pointer_, vector<element, N>(v));
      return *this;
    }

   private:
    T* pointer_;
  };

  // AIE API, Memory (Iterators): dereference, equality, increments and decrements, by one or more vectors.
  explicit vector_iterator(T* pointer) : pointer_(pointer) {}
  auto operator*() const {
    if constexpr (std::is_const_v<T>)
      return load_v<N>(pointer_);
    else
      return reference(pointer_);
  }
  vector_iterator& operator++() { return *this += 1; }
  vector_iterator& operator--() { return *this -= 1; }
  vector_iterator operator++(int) {
    vector_iterator old = *this;
    ++*this;
    return old;
  }
  vector_iterator& operator+=(int n) {
    pointer_ += n * int(kStep);
    return *this;
  }
  vector_iterator& operator-=(int n) { return *this += -n; }
  vector_iterator operator+(int n) const { return vector_iterator(*this) += n; }
  bool operator==(const vector_iterator&) const = default;

 private:
  static constexpr unsigned kStep = aie_emulation::kIsNibble<element> ? N / 2 : N;
  T* pointer_;
};

// AIE API, Memory (Iterators): begin_vector and begin_restrict_vector, which tells the compiler that nothing else
// points there; the c forms read only.
template <unsigned N, class T>
vector_iterator<T, N> begin_vector(T* pointer) {
  return vector_iterator<T, N>(pointer);
}
template <unsigned N, class T>
vector_iterator<T, N> begin_restrict_vector(T* pointer) {
  return vector_iterator<T, N>(pointer);
}
template <unsigned N, class T>
vector_iterator<const T, N> cbegin_vector(const T* pointer) {
  return vector_iterator<const T, N>(pointer);
}
template <unsigned N, class T>
vector_iterator<const T, N> cbegin_restrict_vector(const T* pointer) {
  return vector_iterator<const T, N>(pointer);
}

// AIE API, Memory (Block Vector Buffer Streams): reads vectors of blocks and advances, by pop or >>; vectors need no
// alignment of their own, since "a separate FIFO memory interface" of the core takes "larger, unaligned pops". Counted
// as one instruction for 64 values (vld.pop.576), after one fill. seek is on no page: it moves by whole vectors, as
// detail/aie2p/array_helpers.hpp has it and mlir-aie's kernels use it.
template <class T, unsigned N>
class block_vector_input_buffer_stream {
 public:
  using vector_type = block_vector<T, N>;
  explicit block_vector_input_buffer_stream(const T* pointer) : pointer_(reinterpret_cast<const uint8_t*>(pointer)) {
    aie_emulation::CountLoad(1);
  }
  void seek(int vectors) { pointer_ += vectors * int(vector_type::memory_bytes()); }
  vector_type pop() {
    aie_emulation::CountLoad(N / 64);
    vector_type v;
    v.load_bytes(pointer_);
    pointer_ += vector_type::memory_bytes();
    return v;
  }
  block_vector_input_buffer_stream& operator>>(vector_type& v) {
    v = pop();
    return *this;
  }

 private:
  const uint8_t* pointer_;
};

// AIE API, Memory (Block Vector Buffer Streams): writes vectors of blocks, by push or <<. One instruction for 64 values
// (vst.push.576), and one flush.
template <class T, unsigned N>
class block_vector_output_buffer_stream {
 public:
  using vector_type = block_vector<T, N>;
  explicit block_vector_output_buffer_stream(T* pointer) : pointer_(reinterpret_cast<uint8_t*>(pointer)) {
    aie_emulation::CountStore(1);
  }
  void seek(int vectors) { pointer_ += vectors * int(vector_type::memory_bytes()); }
  void push(const vector_type& v) {
    if (v.origin != aie_emulation::Origin::kNarrowed) aie_emulation::CountStore(N / 64);
    v.store_bytes(pointer_);
    pointer_ += vector_type::memory_bytes();
  }
  block_vector_output_buffer_stream& operator<<(const vector_type& v) {
    push(v);
    return *this;
  }

 private:
  uint8_t* pointer_;
};

// AIE API, Memory (Block Vector Buffer Streams): the same over memory that nothing else points to.
template <class T, unsigned N>
using block_vector_restrict_input_buffer_stream = block_vector_input_buffer_stream<T, N>;
template <class T, unsigned N>
using block_vector_restrict_output_buffer_stream = block_vector_output_buffer_stream<T, N>;

}  // namespace aie
