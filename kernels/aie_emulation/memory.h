// Loads, stores, vector iterators and block-vector streams (aie_doc.hpp, "Memory").
#pragma once

#include "kernels/aie_emulation/accum.h"

namespace aie {

// detail/ld_st.hpp, vector_ldst_align: the vector's size, 64 bytes at most.
template <class T, unsigned N>
constexpr unsigned vector_ldst_align_v = std::min(64u, std::max(16u, N* aie_emulation::kBits<T> / 8));
constexpr unsigned vector_decl_align = 64;

// One instruction for each 512 bits.
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

template <class T, unsigned N>
T* store_v(T* pointer, const vector<T, N>& v) {
  aie_emulation::CheckAlignment(pointer, vector_ldst_align_v<T, N>);
  // vst.conv and vst.srs: the store that follows a narrowing of the same lanes is the same instruction.
  if (v.origin != aie_emulation::Origin::kNarrowed) aie_emulation::CountStore(aie_emulation::Issues(v.bits()));
  v.store_bytes(reinterpret_cast<uint8_t*>(pointer));
  return pointer;
}

// An unaligned access is two aligned ones and a shift.
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

// iterator.hpp: an iterator over consecutive vectors; dereferencing loads, assigning to it stores.
template <class T, unsigned N>
class vector_iterator {
 public:
  using element = std::remove_cv_t<T>;
  class reference {
   public:
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

// Streams over packed blocks. Their vectors have no alignment of their own; the core's load and store FIFOs take one
// instruction for 64 values (vld.pop.576, vst.push.576), after one fill or before one flush.
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
  vector_type pop_seek(int vectors) {
    vector_type v = pop();
    seek(vectors);
    return v;
  }
  block_vector_input_buffer_stream& operator>>(vector_type& v) {
    v = pop();
    return *this;
  }

 private:
  const uint8_t* pointer_;
};

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

template <class T, unsigned N>
using block_vector_restrict_input_buffer_stream = block_vector_input_buffer_stream<T, N>;
template <class T, unsigned N>
using block_vector_restrict_output_buffer_stream = block_vector_output_buffer_stream<T, N>;

}  // namespace aie
