#include "ep/src/device/host_attention.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "ep/src/error.h"
#include "kernels/flow_attention/flow_attention.h"
#include "kernels/kv_store/kv_store.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"

namespace ryzen_npu_gemma::ep {
namespace {

constexpr int64_t kTilePositions = 32;
constexpr int64_t kMinSplitKeys = 256;  // a split shorter than this costs more in merging than it wins
constexpr int64_t kTargetUnits = 16;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

// The cache of one block: past [1, kv_heads, P, head_dim] in, present out, and what lies where in them.
struct Cache {
  TensorView past_k, past_v;
  int64_t past_len = 0;
  int64_t P = 0;
  int64_t capacity = 0;  // rows of the present
  bool shared = false;
  std::size_t element = 0;  // bytes

  int64_t past_rows() const { return std::min(past_len, P); }  // positions past_len - past_rows() .. past_len - 1
  int64_t slot(int64_t position) const { return position % std::max<int64_t>(P, 1); }
};

std::string Where(const FlowAttention& f) { return "attention " + f.name + ": "; }

std::vector<int64_t> PresentShape(const FlowAttention& f, const Cache& cache) {
  return {1, f.kv_num_heads, cache.capacity, f.head_dim};
}

Cache OpenCache(const FlowAttention& f, const AttentionCall& call, RunTensors& tensors) {
  Cache cache;
  cache.past_k = tensors.Input(f.past_k_input);
  cache.past_v = tensors.Input(f.past_v_input);
  const auto& shape = cache.past_k.shape;
  if (shape.size() != 4 || shape[0] != 1 || shape[1] != f.kv_num_heads || shape[3] != f.head_dim ||
      cache.past_v.shape != shape)
    throw Error(ErrorCode::kInvalidArgument, Where(f) + "past_k and past_v are not both [1, " +
                                                 std::to_string(f.kv_num_heads) + ", length, " +
                                                 std::to_string(f.head_dim) + "]");
  if (cache.past_k.type != f.kv_type || cache.past_v.type != f.kv_type)
    throw Error(ErrorCode::kInvalidArgument, Where(f) + "past_k or past_v changed its type");
  cache.P = shape[2];
  if (call.past_len < 0 || call.past_len > kMaxPositions)
    throw Error(ErrorCode::kInvalidArgument,
                Where(f) + "the length of the past is " + std::to_string(call.past_len) +
                    "; attention_mask must be as long as the past and the new tokens together");
  cache.past_len = call.past_len;
  cache.shared = call.shared;
  cache.element = f.kv_type == DataType::kFloat16 ? 2 : 4;
  const int64_t total = cache.past_len + call.total_rows;
  if (!cache.shared && cache.P != cache.past_len)
    throw Error(ErrorCode::kInvalidArgument,
                Where(f) + "a growing cache must hold the " + std::to_string(cache.past_len) +
                    " past tokens, it holds " + std::to_string(cache.P) +
                    "; pass what the last call returned, or a larger buffer if it is a shared one that is full");
  const int64_t needed = f.window ? std::min(total, f.window) : total;
  if (cache.shared && cache.P < needed)
    throw Error(ErrorCode::kInvalidArgument, Where(f) + "the KV cache holds " + std::to_string(cache.P) +
                                                 " tokens, this call needs " + std::to_string(needed) +
                                                 "; make the cache larger or the text shorter");
  cache.capacity = cache.shared ? cache.P : total;
  if (call.first_row > 0) {  // of the past and the earlier blocks, in place
    cache.past_k = {tensors.Output(f.present_k_output, PresentShape(f, cache)), f.kv_type, PresentShape(f, cache)};
    cache.past_v = {tensors.Output(f.present_v_output, PresentShape(f, cache)), f.kv_type, PresentShape(f, cache)};
    cache.past_len += call.first_row;
    cache.P = cache.capacity;
    cache.shared = true;
  }
  return cache;
}

// Keys and values of the call's new rows, as the cache stores them: k, v [kv_heads, stride rows, head_dim].
struct NewRows {
  uint8_t* k = nullptr;
  uint8_t* v = nullptr;
  int64_t stride = 0;
};

// Past and new keys of one KV head as runs of consecutive positions: at most two in a ring, then the new ones.
std::vector<kernels::KvSegment> Segments(const FlowAttention& f, const Cache& cache, int64_t head, const NewRows& fresh,
                                         int64_t rows) {
  const int64_t row_bytes = f.head_dim * static_cast<int64_t>(cache.element);
  const auto* past_k = cache.past_k.as<uint8_t>() + head * cache.P * row_bytes;
  const auto* past_v = cache.past_v.as<uint8_t>() + head * cache.P * row_bytes;
  std::vector<kernels::KvSegment> segments;
  for (int64_t position = cache.past_len - cache.past_rows(); position < cache.past_len;) {
    const int64_t slot = cache.slot(position);
    const int64_t run = std::min(cache.past_len - position, cache.P - slot);
    segments.push_back({past_k + slot * row_bytes, past_v + slot * row_bytes, position, run});
    position += run;
  }
  const int64_t first = head * fresh.stride * row_bytes;
  segments.push_back({fresh.k + first, fresh.v + first, cache.past_len, rows});
  return segments;
}

// The present, which holds the past; null when nobody asks for it.
uint8_t* OpenPresent(const FlowAttention& f, const Cache& cache, int output, const TensorView& past,
                     RunTensors& tensors) {
  if (output < 0) return nullptr;
  const int64_t row_bytes = f.head_dim * static_cast<int64_t>(cache.element);
  auto* present = static_cast<uint8_t*>(tensors.Output(output, PresentShape(f, cache)));
  const auto* past_begin = past.as<uint8_t>();
  const int64_t past_bytes = f.kv_num_heads * cache.P * row_bytes,
                present_bytes = f.kv_num_heads * cache.capacity * row_bytes;
  const bool overlap =
      std::less<>()(present, past_begin + past_bytes) && std::less<>()(past_begin, present + present_bytes);
  if (overlap && past_bytes > 0 && !(cache.shared && present == past_begin))
    throw Error(
        ErrorCode::kInvalidArgument,
        Where(f) +
            "past and present overlap in memory; a growing cache needs a buffer of its own for present, a shared one "
            "the very same buffer for both");
  for (int64_t h = 0; present != past_begin && cache.P > 0 && h < f.kv_num_heads; ++h)
    std::memcpy(present + h * cache.capacity * row_bytes, past_begin + h * cache.P * row_bytes,
                static_cast<std::size_t>(cache.P * row_bytes));
  return present;
}

// Copies the new rows [kv_heads, rows, head_dim] to their slots.
void WritePresent(const FlowAttention& f, const Cache& cache, const uint8_t* fresh, int64_t rows, uint8_t* present) {
  if (!present) return;
  const int64_t row_bytes = f.head_dim * static_cast<int64_t>(cache.element);
  for (int64_t h = 0; h < f.kv_num_heads; ++h)
    for (int64_t i = std::max<int64_t>(0, rows - cache.capacity); i < rows; ++i)
      std::memcpy(present + (h * cache.capacity + (cache.past_len + i) % cache.capacity) * row_bytes,
                  fresh + (h * rows + i) * row_bytes, static_cast<std::size_t>(row_bytes));
}

// Bytes of keys and values that are seen, and what scores and weighted sums cost.
std::pair<int64_t, int64_t> AttentionWork(const FlowAttention& f, const Cache& cache, int64_t first, int64_t queries) {
  const auto seen = [&](int64_t position) { return f.window ? std::min(position + 1, f.window) : position + 1; };
  int64_t pairs = 0;
  for (int64_t i = 0; i < queries; ++i) pairs += seen(first + i);
  const int64_t keys = seen(first) + queries - 1;
  return {2 * keys * f.kv_num_heads * f.head_dim * static_cast<int64_t>(cache.element),
          4 * pairs * f.num_heads * f.head_dim};
}

// The queries over the past and all new keys; theirs are the last positions.
void Attend(const FlowAttention& f, const AttentionCall& call, const Cache& cache, const float* q, const NewRows& fresh,
            float* y, const RopeTable& rope, Threads& threads, AttentionScratch& scratch, LaunchTimes* times) {
  static const auto norm_rope = kernels::SelectQkNormRope();
  const auto accumulate = call.fast ? kernels::SelectFlowAccumulateFast() : kernels::SelectFlowAccumulate();
  const int64_t queries = call.queries, unasked = call.rows - queries;
  const int64_t D = f.head_dim, Hkv = f.kv_num_heads, group = f.num_heads / Hkv;
  const int64_t tiles = (queries + kTilePositions - 1) / kTilePositions;
  const int64_t end_position = cache.past_len + call.rows, first_query = end_position - queries;
  const auto kv_type = f.kv_type == DataType::kFloat16 ? kernels::KvType::kFloat16 : kernels::KvType::kFloat32;
  const int64_t row_bytes = D * static_cast<int64_t>(cache.element);

  std::vector<std::vector<kernels::KvSegment>> segments;
  for (int64_t h = 0; h < Hkv; ++h) segments.push_back(Segments(f, cache, h, fresh, call.rows));

  const int64_t keys = f.window ? std::min(end_position, f.window + kTilePositions) : end_position;
  const int64_t splits =
      std::clamp<int64_t>(std::min(keys / kMinSplitKeys, kTargetUnits / (tiles * Hkv)), 1, kTargetUnits);
  const int64_t tile_rows = std::min(kTilePositions, queries) * group;
  const int64_t state_floats = tile_rows * (D + 2);
  float* states = scratch.state.Reserve<float>(tiles * Hkv * splits * state_floats);
  const auto state_of = [&](int64_t unit) {
    float* base = states + unit * state_floats;
    return kernels::SoftmaxState{base, base + tile_rows, base + 2 * tile_rows};
  };
  float* q_tiles = scratch.q.Reserve<float>(queries * f.num_heads * D);  // [Hkv, queries, group, D]
  const auto norm_and_rotate = [&](int64_t h, int64_t t) {
    for (int64_t i = t * kTilePositions; i < std::min(queries, (t + 1) * kTilePositions); ++i) {
      const int64_t angle = (unasked + i) * D / 2;
      norm_rope(q + (i * f.num_heads + h * group) * D, f.q_norm.data(), f.eps, rope.cos + angle, rope.sin + angle,
                f.scale, group, D, q_tiles + (h * queries + i) * group * D);
    }
  };
  const auto tile_of = [&](int64_t h, int64_t t) {
    const int64_t first = t * kTilePositions, count = std::min(kTilePositions, queries - first);
    return kernels::QueryTile{
        q_tiles + (h * queries + first) * group * D, count * group, D, first_query + first, group, f.window, kv_type};
  };
  const auto finish = [&](int64_t h, int64_t t, const kernels::SoftmaxState& state) {
    kernels::FinishSoftmax(state, tile_of(h, t).rows, D, group, f.num_heads * D,
                           y + (t * kTilePositions * f.num_heads + h * group) * D);
  };

  if (splits > 1) threads.For(tiles * Hkv, [&](int64_t unit) { norm_and_rotate(unit / tiles, unit % tiles); });
  threads.For(tiles * Hkv * splits, [&](int64_t unit) {
    // Late tiles see more keys: the last, the first, the last but one, so that any share of them is as long as another.
    const int64_t split = unit % splits, i = unit / splits % tiles, h = unit / splits / tiles;
    const int64_t t = i % 2 == 0 ? tiles - 1 - i / 2 : i / 2;
    if (splits == 1) norm_and_rotate(h, t);  // they are still in the thread's cache when they are read
    const kernels::QueryTile tile = tile_of(h, t);
    const kernels::SoftmaxState state = state_of((h * tiles + t) * splits + split);
    kernels::ResetSoftmax(state, tile.rows, D);
    const int64_t end = tile.first_position + tile.rows / group;  // one past the last visible key
    const int64_t begin = f.window ? std::max<int64_t>(0, tile.first_position - f.window + 1) : 0;
    const int64_t from = begin + (end - begin) * split / splits, to = begin + (end - begin) * (split + 1) / splits;
    for (const kernels::KvSegment& segment : segments[h]) {
      const int64_t low = std::max(from, segment.first_position),
                    high = std::min(to, segment.first_position + segment.rows);
      if (low >= high) continue;
      const int64_t skip = (low - segment.first_position) * row_bytes;
      accumulate(tile,
                 {static_cast<const uint8_t*>(segment.k) + skip, static_cast<const uint8_t*>(segment.v) + skip, low,
                  high - low},
                 state);
    }
    if (splits == 1) finish(h, t, state);
  });
  if (times) {
    const auto [bytes, operations] = AttentionWork(f, cache, first_query, queries);
    times->Done("attention", bytes, operations);
  }
  if (splits > 1)
    threads.For(tiles * Hkv, [&](int64_t unit) {
      const int64_t t = unit % tiles, h = unit / tiles;
      const kernels::SoftmaxState whole = state_of(unit * splits);
      for (int64_t split = 1; split < splits; ++split)
        kernels::MergeSoftmax(state_of(unit * splits + split), tile_of(h, t).rows, D, whole);
      finish(h, t, whole);
    });
  if (times && splits > 1) times->Done("merge");
}

}  // namespace

void FillRopeTable(const Rope& rope, int64_t past_len, int64_t rows, Threads& threads, RopeTable& table) {
  const int64_t half = rope.head_dim / 2;
  float* inv_freq = table.cos_sin.Reserve<float>(half + 2 * rows * half);
  float* cos = inv_freq + half;
  float* sin = cos + rows * half;
  kernels::RopeInvFreq(rope.theta, rope.factor, rope.head_dim, inv_freq);
  threads.For((rows + kTilePositions - 1) / kTilePositions, [&](int64_t block) {
    for (int64_t i = block * kTilePositions; i < std::min(rows, (block + 1) * kTilePositions); ++i)
      kernels::RopeAngles(inv_freq, rope.head_dim, past_len + i, cos + i * half, sin + i * half);
  });
  table.cos = cos;
  table.sin = sin;
}

void RunAttention(const FlowAttention& f, const AttentionCall& call, const float* q, const float* k, const float* v,
                  float* y, const RopeTable& rope, RunTensors& tensors, Threads& threads, AttentionScratch& scratch,
                  LaunchTimes* times) {
  static const auto norm_rope = kernels::SelectQkNormRope();
  static const auto kv_store = kernels::SelectKvStore();

  const Cache cache = OpenCache(f, call, tensors);
  const int64_t rows = call.rows, D = f.head_dim, Hkv = f.kv_num_heads;
  const auto kv_type = f.kv_type == DataType::kFloat16 ? kernels::KvType::kFloat16 : kernels::KvType::kFloat32;
  const int64_t row_bytes = D * static_cast<int64_t>(cache.element);

  uint8_t* present_k = OpenPresent(f, cache, f.present_k_output, cache.past_k, tensors);
  uint8_t* present_v = OpenPresent(f, cache, f.present_v_output, cache.past_v, tensors);
  if (times) times->Done("past to present");

  // New rows go where they belong at once, unless queries are to see what a ring still holds there.
  const bool at_once = present_k && present_v && cache.past_len + rows <= cache.capacity;
  const int64_t first = cache.past_len * row_bytes;
  const NewRows fresh = at_once ? NewRows{present_k + first, present_v + first, cache.capacity}
                                : NewRows{scratch.k.Reserve<uint8_t>(rows * Hkv * row_bytes),
                                          scratch.v.Reserve<uint8_t>(rows * Hkv * row_bytes), rows};
  const int64_t tiles = (rows + kTilePositions - 1) / kTilePositions;
  threads.For(tiles, [&](int64_t tile) {
    alignas(64) float rotated[kernels::kMaxHeadDim];
    for (int64_t i = tile * kTilePositions; i < std::min(rows, (tile + 1) * kTilePositions); ++i) {
      const float* cos = rope.cos + i * D / 2;
      const float* sin = rope.sin + i * D / 2;
      for (int64_t h = 0; h < Hkv; ++h) {
        norm_rope(k + (i * Hkv + h) * D, f.k_norm.data(), f.eps, cos, sin, 1.0f, 1, D, rotated);
        kv_store(rotated, D, kv_type, fresh.k + (h * fresh.stride + i) * row_bytes);
        kv_store(v + (i * Hkv + h) * D, D, kv_type, fresh.v + (h * fresh.stride + i) * row_bytes);
      }
    }
  });

  if (times) times->Done("norm, rotation, store");

  if (call.queries > 0) Attend(f, call, cache, q, fresh, y, rope, threads, scratch, times);
  if (at_once) return;
  WritePresent(f, cache, fresh.k, rows, present_k);
  WritePresent(f, cache, fresh.v, rows, present_v);
  if (times) times->Done("present");
}

}  // namespace ryzen_npu_gemma::ep
