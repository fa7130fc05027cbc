#include "kernels/flow_attention/flow_attention.h"

#include <bit>
#include <limits>

#include "kernels/float16.h"
#include "tests/kernels/kernel_test.h"

namespace ryzen_npu_gemma::kernels {
namespace {

constexpr KernelRow<FlowAccumulateFn> kRows[] = {
#define KERNEL(required, name) {#name, required, name},
#include "kernels/flow_attention/fast_kernels.inc"
#undef KERNEL
};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Queries of one KV head at the last `queries` positions of `keys` keys.
struct Shape {
  int64_t queries = 1;
  int64_t keys = 1;
  int64_t head_dim = 64;
  int64_t group = 1;
  int64_t window = 0;
  KvType kv_type = KvType::kFloat16;

  int64_t rows() const { return queries * group; }
  int64_t first_position() const { return keys - queries; }
};

// What a row rounds the operands of its products to.
using RoundFn = float (*)(float);
float KeepFloat(float x) { return x; }
float RoundToBfloat16(float x) {
  if (!std::isfinite(x)) return x;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}
RoundFn RoundingOf(const KernelRow<FlowAccumulateFn>& row, int64_t rows) {
  return row.required & kAvx512Bf16 && rows > 4 ? RoundToBfloat16 : KeepFloat;  // decode stays exact
}

std::size_t Size(int64_t n) { return static_cast<std::size_t>(n); }

class Problem {
 public:
  Problem(const Shape& shape, uint32_t seed) : shape_(shape) {
    // Scores with a deviation of 2: some keys dominate, none alone.
    q_ = RandomFloats(Size(shape.rows() * shape.head_dim), seed, 2.0f / std::sqrt(static_cast<float>(shape.head_dim)));
    k_ = RandomFloats(Size(shape.keys * shape.head_dim), seed + 1);
    v_ = RandomFloats(Size(shape.keys * shape.head_dim), seed + 2);
    Store();
  }

  void SetKey(int64_t key, float value) {
    std::fill_n(k_.begin() + key * shape_.head_dim, shape_.head_dim, value);
    Store();
  }
  void SetValue(int64_t key, float value) {
    std::fill_n(v_.begin() + key * shape_.head_dim, shape_.head_dim, value);
    Store();
  }

  void MakeQueriesPositive() {
    for (float& q : q_) q = std::abs(q);
  }

  QueryTile tile() const {
    return {q_.data(),    shape_.rows(), shape_.head_dim, shape_.first_position(),
            shape_.group, shape_.window, shape_.kv_type};
  }
  KvSegment segment(int64_t begin, int64_t end) const {
    const int64_t first = begin * shape_.head_dim;
    if (shape_.kv_type == KvType::kFloat32) return {k_.data() + first, v_.data() + first, begin, end - begin};
    return {k16_.data() + first, v16_.data() + first, begin, end - begin};
  }
  bool Sees(int64_t row, int64_t key) const {
    const int64_t position = shape_.first_position() + row / shape_.group;
    return key <= position && (shape_.window == 0 || key > position - shape_.window);
  }

  const Shape& shape() const { return shape_; }

  // Naive softmax attention in the precision T; `magnitude` [rows, head_dim] takes sum_p softmax_p |v_p|. `round` is
  // what happens to an operand of a product before it.
  template <typename T>
  std::vector<T> Attend(RoundFn round, std::vector<T>* magnitude = nullptr) const {
    std::vector<T> y(Size(shape_.rows() * shape_.head_dim));
    if (magnitude != nullptr) magnitude->assign(y.size(), 0);
    for (int64_t r = 0; r < shape_.rows(); ++r) {
      std::vector<T> weights(Size(shape_.keys), 0);
      T max = -std::numeric_limits<T>::infinity(), sum = 0;
      for (int64_t p = 0; p < shape_.keys; ++p) {
        if (!Sees(r, p)) continue;
        T score = 0;
        for (int64_t d = 0; d < shape_.head_dim; ++d)
          score += static_cast<T>(round(Q(r, d))) * static_cast<T>(round(K(p, d)));
        weights[Size(p)] = score;
        max = std::max(max, score);
      }
      for (int64_t p = 0; p < shape_.keys; ++p) {
        if (!Sees(r, p)) continue;
        weights[Size(p)] = std::exp(weights[Size(p)] - max);
        if (round != KeepFloat) weights[Size(p)] = static_cast<T>(round(static_cast<float>(weights[Size(p)])));
        sum += weights[Size(p)];
      }
      for (int64_t p = 0; p < shape_.keys; ++p) {
        if (!Sees(r, p)) continue;
        for (int64_t d = 0; d < shape_.head_dim; ++d) {
          const T part = weights[Size(p)] / sum * static_cast<T>(round(V(p, d)));
          y[Size(r * shape_.head_dim + d)] += part;
          if (magnitude != nullptr) (*magnitude)[Size(r * shape_.head_dim + d)] += std::abs(part);
        }
      }
    }
    return y;
  }

 private:
  void Store() {
    k16_.clear();
    v16_.clear();
    for (const float k : k_) k16_.push_back(FloatToFloat16(k));
    for (const float v : v_) v16_.push_back(FloatToFloat16(v));
  }
  float Q(int64_t r, int64_t d) const { return q_[Size(r * shape_.head_dim + d)]; }
  float K(int64_t p, int64_t d) const { return Element(k_, k16_, p, d); }
  float V(int64_t p, int64_t d) const { return Element(v_, v16_, p, d); }
  float Element(const std::vector<float>& x, const std::vector<uint16_t>& x16, int64_t p, int64_t d) const {
    const std::size_t i = Size(p * shape_.head_dim + d);
    return shape_.kv_type == KvType::kFloat32 ? x[i] : Float16ToFloat(x16[i]);
  }

  Shape shape_;
  std::vector<float> q_, k_, v_;
  std::vector<uint16_t> k16_, v16_;
};

struct State {
  explicit State(const Shape& shape)
      : m(Size(shape.rows())), l(Size(shape.rows())), y(Size(shape.rows() * shape.head_dim), 1) {
    ResetSoftmax(view(), shape.rows(), shape.head_dim);
  }
  SoftmaxState view() { return {m.data(), l.data(), y.data()}; }

  Guarded<float> m, l, y;
};

std::vector<float> Finish(const Shape& shape, State& state) {
  EXPECT_TRUE(state.m.Intact() && state.l.Intact() && state.y.Intact());
  Guarded<float> out(Size(shape.rows() * shape.head_dim));
  FinishSoftmax(state.view(), shape.rows(), shape.head_dim, shape.group, shape.group * shape.head_dim, out.data());
  EXPECT_TRUE(out.Intact());
  return out.values();
}

class FlowAccumulateTest : public KernelRowTest<FlowAccumulateFn> {
 protected:
  std::vector<float> Attend(const Shape& shape, const Problem& problem, const std::vector<int64_t>& cuts) const {
    State state(shape);
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
      kernel()(problem.tile(), problem.segment(cuts[i], cuts[i + 1]), state.view());
    }
    return Finish(shape, state);
  }

  void ExpectAccurate(const Problem& problem, const std::vector<float>& y) const {
    std::vector<double> magnitude;
    const std::vector<double> truth = problem.Attend<double>(KeepFloat, &magnitude);
    const std::vector<float> ideal = problem.Attend<float>(RoundingOf(GetParam(), problem.shape().rows()));
    ErrorRule rule;
    for (std::size_t i = 0; i < y.size(); ++i) rule.Add(truth[i], magnitude[i], y[i], ideal[i]);
    rule.Check(0x1p-24);  // measured: 2.4e-8 beyond twice the ideal
  }
};

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  for (const KvType type : {KvType::kFloat16, KvType::kFloat32}) {
    for (const int64_t group : {1, 2, 4}) {
      for (const int64_t window : {0, 1, 5, 64}) {
        shapes.push_back({1, 1, 64, group, window, type});
        shapes.push_back({1, 200, 256, group, window, type});                    // decode
        shapes.push_back({37, 37, 64, group, window, type});                     // prefill from nothing
        shapes.push_back({33, 150, 128, group, window, type});                   // a later chunk
        if (window == 5) shapes.push_back({130, 261, 64, group, window, type});  // rows that have left a block of keys
      }
      shapes.push_back({3, 70, 24, group, 0, type});  // head_dim of one and a half column pairs
      shapes.push_back({3, 70, 20, group, 7, type});  // head_dim off the vector length
      shapes.push_back({3, 70, kMaxHeadDim, group, 0, type});
    }
  }
  return shapes;
}

std::string Describe(const Shape& s) {
  return std::to_string(s.queries) + " queries " + std::to_string(s.keys) + " keys head_dim " +
         std::to_string(s.head_dim) + " group " + std::to_string(s.group) + " window " + std::to_string(s.window) +
         (s.kv_type == KvType::kFloat16 ? " fp16" : " fp32");
}

TEST_P(FlowAccumulateTest, ErrorIsWithinTwiceThatOfIdealFp32) {
  for (const Shape& shape : Shapes()) {
    SCOPED_TRACE(Describe(shape));
    const Problem problem(shape, 1);
    ExpectAccurate(problem, Attend(shape, problem, {0, shape.keys}));
  }
}

TEST_P(FlowAccumulateTest, AnyCutOfTheKeysGivesTheSameAnswer) {
  const Shape shape = {9, 75, 64, 2, 40, KvType::kFloat16};
  const Problem problem(shape, 2);
  for (int64_t cut = 0; cut <= shape.keys; ++cut) {
    SCOPED_TRACE("cut " + std::to_string(cut));
    ExpectAccurate(problem, Attend(shape, problem, {0, cut, shape.keys}));
  }
  std::vector<int64_t> every_key;
  for (int64_t key = 0; key <= shape.keys; ++key) every_key.push_back(key);
  ExpectAccurate(problem, Attend(shape, problem, every_key));
}

TEST_P(FlowAccumulateTest, MergedPartialsAreTheWhole) {
  for (const int64_t window : {0, 30}) {
    const Shape shape = {2, 300, 256, 4, window, KvType::kFloat16};
    const Problem problem(shape, 3);
    State whole(shape);
    // With a window the first parts see no key; merging such a part, and into such a part, changes nothing.
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 100}, {100, 270}, {270, 270}, {270, 300}}) {
      State part(shape);
      kernel()(problem.tile(), problem.segment(begin, end), part.view());
      MergeSoftmax(part.view(), shape.rows(), shape.head_dim, whole.view());
    }
    ExpectAccurate(problem, Finish(shape, whole));
  }
}

TEST_P(FlowAccumulateTest, SameInputSameBits) {
  const Shape shape = {40, 90, 256, 4, 64, KvType::kFloat16};
  const Problem problem(shape, 4);
  const std::vector<float> once = Attend(shape, problem, {0, shape.keys});
  EXPECT_TRUE(SameBits(once, Attend(shape, problem, {0, shape.keys})));
}

TEST_P(FlowAccumulateTest, RowsWithoutAKeyBecomeZero) {
  const Shape shape = {4, 40, 64, 2, 8, KvType::kFloat16};
  const Problem problem(shape, 5);
  for (const float y : Attend(shape, problem, {0, 20})) EXPECT_EQ(y, 0.0f);
  for (const float y : Attend(shape, problem, {0, 0})) EXPECT_EQ(y, 0.0f);
}

TEST_P(FlowAccumulateTest, KeysThatARowMayNotSeeDoNotTouchIt) {
  for (const int64_t group : {1, 2, 4}) {
    const Shape shape = {20, 60, 64, group, 16, KvType::kFloat16};
    const Problem clean(shape, 6);
    // Left behind by the window or not yet seen, the first or the second of a pair, and the first that a row sees.
    for (const int64_t bad_key : {30, 31, 46, 47}) {
      Problem dirty(shape, 6);
      dirty.SetKey(bad_key, kNan);
      dirty.SetValue(bad_key, kNan);
      const std::vector<float> expected = Attend(shape, clean, {0, shape.keys});
      const std::vector<float> y = Attend(shape, dirty, {0, shape.keys});
      for (int64_t r = 0; r < shape.rows(); ++r) {
        const bool sees = dirty.Sees(r, bad_key);
        for (int64_t d = 0; d < shape.head_dim; ++d) {
          const std::size_t i = Size(r * shape.head_dim + d);
          if (sees) {
            EXPECT_TRUE(std::isnan(y[i])) << "row " << r << " bad key " << bad_key;
          } else {
            EXPECT_EQ(y[i], expected[i]) << "row " << r;
          }
        }
      }
    }
  }
}

TEST_P(FlowAccumulateTest, LargeScoresDoNotOverflow) {
  const Shape shape = {1, 50, 64, 4, 0, KvType::kFloat32};
  Problem problem(shape, 7);
  problem.SetKey(10, 1e4f);  // scores of some thousand: e^score is far out of range
  problem.SetKey(40, -1e4f);
  const std::vector<float> y = Attend(shape, problem, {0, shape.keys});
  for (const float value : y) EXPECT_TRUE(std::isfinite(value));
  ExpectAccurate(problem, y);
}

TEST_P(FlowAccumulateTest, AScoreOfMinusInfinityWeighsNothing) {
  for (const int64_t queries : {1, 9}) {
    const Shape shape = {queries, 40, 64, 2, 0, KvType::kFloat16};
    Problem problem(shape, 8);
    problem.MakeQueriesPositive();
    problem.SetKey(0, -std::numeric_limits<float>::infinity());
    ExpectAccurate(problem, Attend(shape, problem, {0, 40}));
    ExpectAccurate(problem, Attend(shape, problem, {0, 1, 40}));  // the first segment holds no other key
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, FlowAccumulateTest, testing::ValuesIn(kRows), RowName<FlowAccumulateFn>);

TEST(FinishSoftmaxTest, PlacesHeadsAtTheirStride) {
  const int64_t positions = 3, group = 2, D = 8, stride = 40;
  Guarded<float> m(6), l(6), y(48), out(Size(positions * stride));
  ResetSoftmax({m.data(), l.data(), y.data()}, 6, D);
  for (std::size_t r = 0; r < 6; ++r) {
    l[r] = 2;
    for (std::size_t d = 0; d < 8; ++d) y[r * 8 + d] = static_cast<float>(r * 100 + d);
  }
  FinishSoftmax({m.data(), l.data(), y.data()}, 6, D, group, stride, out.data());
  for (int64_t i = 0; i < positions; ++i) {
    for (int64_t offset = 0; offset < stride; ++offset) {
      const std::size_t at = Size(i * stride + offset);
      if (offset < group * D) {
        EXPECT_EQ(out[at], static_cast<float>((i * group + offset / D) * 100 + offset % D) / 2);
      } else {
        EXPECT_TRUE(out.Untouched(at));
      }
    }
  }
  EXPECT_TRUE(out.Intact());
}

}  // namespace
}  // namespace ryzen_npu_gemma::kernels
