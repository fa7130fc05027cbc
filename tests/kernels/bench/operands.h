// One call of each kernel on operands of its own: what the benches time and instruction_counts.cc counts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cpu_features.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/flow_attention/flow_attention.h"
#include "kernels/gelu_mul/gelu_mul.h"
#include "kernels/kv_store/kv_store.h"
#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/matmul_nbits_int8/matmul_nbits_int8.h"
#include "kernels/matmul_rotated_int8/matmul_rotated_int8.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/quantize_rotated_rows/quantize_rotated_rows.h"
#include "kernels/quantize_rows/quantize_rows.h"
#include "kernels/rms_norm/rms_norm.h"
#include "tests/kernels/q4nx_matrix.h"

namespace ryzen_npu_gemma::kernels {

inline constexpr int64_t kHeadDim = 256;  // of every Gemma3

inline std::vector<float> Floats(int64_t n) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& value : values) value = normal(engine);
  return values;
}

// Packed weights, `copies` times over: a matrix smaller than the caches must be met as a decoder meets it, cold.
class Weights {
 public:
  Weights(const NBitsShape& shape, int64_t copies) : shape_(shape) {
    const NBitsShape strip{32, shape.K, shape.bits};  // one row of blocks, repeated
    const std::vector<uint8_t> some = RandomBlocks(strip, 1);
    std::vector<uint8_t> blocks(
        static_cast<std::size_t>(q4nx::BlockCount(shape.N, shape.K) * q4nx::BlockBytes(shape.bits)));
    for (std::size_t i = 0; i < blocks.size(); i += some.size()) std::memcpy(&blocks[i], some.data(), some.size());
    for (int64_t i = 0; i < copies; ++i) {
      copies_.emplace_back(static_cast<std::size_t>(shape.packed_bytes()));
      PackStrips(shape, blocks.data(), 0, shape.strips(), copies_.back().data());
    }
  }

  const NBitsShape& shape() const { return shape_; }
  const uint8_t* copy(int64_t i) const { return copies_[static_cast<std::size_t>(i) % copies_.size()].data(); }

 private:
  NBitsShape shape_;
  std::vector<AlignedBuffer> copies_;
};

// The `part`th of `parts` equal parts of the strips of y_MN = a_MK * w_NK^T, as one thread of a team does it.
struct MatMulOperands {
  MatMulOperands(const NBitsShape& shape, int64_t rows, int64_t copies)
      : w(shape, copies),
        M(rows),
        a(Floats(rows * shape.K)),
        q(static_cast<std::size_t>(rows * shape.groups())),
        rotated(static_cast<std::size_t>(rows * (shape.K / kSpanColumns))),
        y(static_cast<std::size_t>(rows * shape.N)) {
    SelectQuantizeRows()(a.data(), M, shape.K, shape.K, q.data());
    SelectQuantizeRotatedRows()(a.data(), M, shape.K, shape.K / kSpanColumns * kSpanColumns, rotated.data(), M);
  }

  void Run(MatMulNBitsFn fn, int64_t copy = 0, int64_t part = 0, int64_t parts = 1) {
    const int64_t strips = w.shape().strips(), N = w.shape().N, K = w.shape().K;
    fn(w.shape(), a.data(), M, K, w.copy(copy), strips * part / parts, strips * (part + 1) / parts, y.data(), N);
  }
  void Run(MatMulNBitsInt8Fn fn, int64_t copy = 0, int64_t part = 0, int64_t parts = 1) {
    const int64_t strips = w.shape().strips(), N = w.shape().N;
    fn(w.shape(), q.data(), M, w.copy(copy), strips * part / parts, strips * (part + 1) / parts, y.data(), N);
  }
  void Run(MatMulRotatedInt8Fn fn, int64_t copy = 0, int64_t part = 0, int64_t parts = 1) {
    const int64_t strips = w.shape().strips(), N = w.shape().N;
    fn(w.shape(), rotated.data(), M, w.copy(copy), strips * part / parts, strips * (part + 1) / parts, y.data(), N);
  }

  Weights w;
  int64_t M;
  std::vector<float> a;
  std::vector<QuantizedGroup> q;
  std::vector<RotatedSpan> rotated;
  std::vector<float> y;
};

// `positions` query positions of the `group` heads of one KV head, over the `keys` last positions, fp16.
struct AttentionOperands {
  AttentionOperands(int64_t positions, int64_t group, int64_t keys)
      : q(Floats(positions * group * kHeadDim)),
        k(Halves(keys * kHeadDim)),
        v(k),
        m(static_cast<std::size_t>(positions * group)),
        l(m.size()),
        y(q.size()),
        tile{q.data(), positions * group, kHeadDim, keys - positions, group, 0, KvType::kFloat16},
        segment{k.data(), v.data(), 0, keys} {}
  AttentionOperands(const AttentionOperands&) = delete;
  AttentionOperands& operator=(const AttentionOperands&) = delete;

  void Run(FlowAccumulateFn fn) {
    const SoftmaxState state{m.data(), l.data(), y.data()};
    ResetSoftmax(state, tile.rows, kHeadDim);
    fn(tile, segment, state);
  }

  static std::vector<uint16_t> Halves(int64_t n) {
    std::vector<uint16_t> halves(static_cast<std::size_t>(n));
    SelectKvStore()(Floats(n).data(), n, KvType::kFloat16, halves.data());
    return halves;
  }

  std::vector<float> q;
  std::vector<uint16_t> k, v;
  std::vector<float> m, l, y;
  QueryTile tile;
  KvSegment segment;
};

// `rows` rows of `width` activations, for the kernels that go through them element by element.
struct RowOperands {
  RowOperands(int64_t row_count, int64_t row_width)
      : rows(row_count),
        width(row_width),
        x(Floats(rows * width)),
        weight(Floats(width)),
        cos(Floats(width)),
        sin(Floats(width)),
        y(x.size()),
        halves(x.size()),
        codes(x.size() / 32),
        spans(x.size() / kSpanColumns) {}

  void Run(ElementwiseFn fn) { fn(false, x.data(), x.data(), rows * width, y.data()); }
  void Run(RmsNormFn fn) { fn(x.data(), weight.data(), 1e-6f, rows, width, y.data()); }
  void Run(GeluMulFn fn) { fn(x.data(), x.data(), rows * width, y.data()); }
  void Run(QuantizeRowsFn fn) { fn(x.data(), rows, width, width, codes.data()); }
  void Run(QuantizeRotatedRowsFn fn) { fn(x.data(), rows, width, width, spans.data(), rows); }
  void Run(KvStoreFn fn) { fn(x.data(), rows * width, KvType::kFloat16, halves.data()); }
  void Run(QkNormRopeFn fn) {
    fn(x.data(), weight.data(), 1e-6f, cos.data(), sin.data(), 0.0625f, rows, width, y.data());
  }

  int64_t rows, width;
  std::vector<float> x, weight, cos, sin, y;
  std::vector<uint16_t> halves;
  std::vector<QuantizedGroup> codes;
  std::vector<RotatedSpan> spans;
};

}  // namespace ryzen_npu_gemma::kernels
