#include <algorithm>

#include "absl/types/span.h"
#include "tests/kernels/attention_reference.h"
#include "tests/support/backend_test.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::kBlockTokens;
using kernels::PagedRow;

struct Shape {
  int heads;
  int kv_heads;
  int head_dim;
  int gap = 0;  // elements between the rows of q

  int q_width() const { return heads * head_dim; }
  int q_stride() const { return q_width() + gap; }
  int token_width() const { return kv_heads * 2 * head_dim; }
};

// Those of head_dim 128 with at most 8 query heads a kv head are the ones that CUDA has a kernel of its own
// for, unless rows of q are out of step with 16 bytes. A CPU has one way for all and computes the first six.
constexpr int kCpuShapes = 6;
constexpr Shape kShapes[] = {
    {.heads = 4, .kv_heads = 4, .head_dim = 16},   {.heads = 8, .kv_heads = 4, .head_dim = 64, .gap = 9},
    {.heads = 3, .kv_heads = 1, .head_dim = 128},  {.heads = 7, .kv_heads = 1, .head_dim = 32, .gap = 16},
    {.heads = 4, .kv_heads = 2, .head_dim = 6},    {.heads = 50, .kv_heads = 1, .head_dim = 16},
    {.heads = 8, .kv_heads = 2, .head_dim = 128},  {.heads = 20, .kv_heads = 4, .head_dim = 128, .gap = 24},
    {.heads = 2, .kv_heads = 2, .head_dim = 128},  {.heads = 8, .kv_heads = 1, .head_dim = 128},
    {.heads = 9, .kv_heads = 1, .head_dim = 128},  {.heads = 4, .kv_heads = 1, .head_dim = 128, .gap = 3},
    {.heads = 32, .kv_heads = 8, .head_dim = 128}, {.heads = 6, .kv_heads = 3, .head_dim = 128},
    {.heads = 6, .kv_heads = 6, .head_dim = 128},
};

// Two sequences in a paged cache, their blocks in no order among blocks of NaN. Tokens past a sequence's
// length are NaN.
class Cache {
 public:
  static constexpr int kSequences = 2;

  Cache(const Shape& shape, int max_tokens, Random& random)
      : shape_(shape),
        max_blocks((max_tokens + kBlockTokens - 1) / kBlockTokens),
        tables(random.Permutation(2 * kSequences * max_blocks)) {
    tables.resize(kSequences * max_blocks);
    const size_t width = shape.token_width();
    tokens.assign(2 * kSequences * max_blocks * kBlockTokens * width, PoisonValue<float>());
    for (int sequence = 0; sequence < kSequences; ++sequence) {
      for (int position = 0; position < max_tokens; ++position) {
        const std::vector<float> token = random.Normals(width);
        std::copy(token.begin(), token.end(), tokens.begin() + Slot(sequence, position) * width);
      }
    }
  }

  int32_t Slot(int sequence, int position) const {
    return tables[sequence * max_blocks + position / kBlockTokens] * kBlockTokens + position % kBlockTokens;
  }
  KeyValue At(int32_t slot, int kv_head) const {
    const float* k =
        &tokens[static_cast<size_t>(slot) * shape_.token_width() + kv_head * 2 * shape_.head_dim];
    return {k, k + shape_.head_dim};
  }

 private:
  Shape shape_;

 public:
  int max_blocks;
  std::vector<int32_t> tables;  // [kSequences, max_blocks]
  std::vector<float> tokens;    // [slots, kv_heads, 2, head_dim]
};

// The same in device memory.
struct DeviceCache {
  int max_blocks;
  DeviceArray<int32_t> tables;
  ActivationArray tokens;
};

class PagedAttentionTest : public BackendTest {
 protected:
  static constexpr int kMaxTokens = 1100;

  // Leaves the tokens in `cache` as the device holds them: rounded.
  absl::Span<const Shape> Shapes() const {
    return absl::MakeConstSpan(kShapes).subspan(0, on_cuda() ? std::size(kShapes) : kCpuShapes);
  }

  DeviceCache Load(Cache& cache) {
    DeviceCache device = {cache.max_blocks, Upload(cache.tables), Activations(cache.tokens)};
    cache.tokens = device.tokens.values();
    return device;
  }

  // `q` is [rows, q_stride].
  std::vector<float> Dense(const Shape& shape, const DeviceCache& cache, const std::vector<float>& q,
                           const std::vector<PagedRow>& rows, int num_threads = 2) {
    const ActivationArray device_q = Activations(q);
    const DeviceArray<PagedRow> device_rows = Upload(rows);
    const ActivationArray out = PoisonedActivations(rows.size() * shape.q_width());
    backend().DenseAttention({.q = device_q.data(),
                              .q_stride = shape.q_stride(),
                              .cache = cache.tokens.data(),
                              .block_tables = cache.tables.data(),
                              .max_blocks = cache.max_blocks,
                              .rows = device_rows.data(),
                              .num_rows = static_cast<int>(rows.size()),
                              .heads = shape.heads,
                              .kv_heads = shape.kv_heads,
                              .head_dim = shape.head_dim,
                              .out = out.data()},
                             stream(num_threads));
    return out.Read();
  }

  // `chosen` holds the slots of each row; entries past a row's count are poison, at least `spare` of them.
  std::vector<float> Sparse(const Shape& shape, const DeviceCache& cache, const std::vector<float>& q,
                            const std::vector<std::vector<int32_t>>& chosen, int num_threads = 2,
                            size_t spare = 3) {
    size_t top_k = 0;
    std::vector<int32_t> count, slots;
    for (const std::vector<int32_t>& row : chosen) {
      count.push_back(static_cast<int32_t>(row.size()));
      top_k = std::max(top_k, row.size() + spare);
    }
    for (const std::vector<int32_t>& row : chosen) {
      slots.insert(slots.end(), row.begin(), row.end());
      slots.insert(slots.end(), top_k - row.size(), PoisonValue<int32_t>());
    }
    const ActivationArray device_q = Activations(q);
    const DeviceArray<int32_t> device_slots = Upload(slots), device_count = Upload(count);
    const ActivationArray out = PoisonedActivations(chosen.size() * shape.q_width());
    backend().SparseAttention({.q = device_q.data(),
                               .q_stride = shape.q_stride(),
                               .cache = cache.tokens.data(),
                               .slots = device_slots.data(),
                               .count = device_count.data(),
                               .top_k = static_cast<int>(top_k),
                               .num_rows = static_cast<int>(chosen.size()),
                               .heads = shape.heads,
                               .kv_heads = shape.kv_heads,
                               .head_dim = shape.head_dim,
                               .out = out.data()},
                              stream(num_threads));
    return out.Read();
  }

  // Already rounded as the device will.
  std::vector<float> Queries(const Shape& shape, size_t num_rows, Random& random) {
    return Activations(random.Normals(num_rows * shape.q_stride())).values();
  }

  // All rows over the given slots each, in double; zeros for a row without any.
  void ExpectReference(const Shape& shape, const Cache& cache, const std::vector<float>& q,
                       const std::vector<std::vector<int32_t>>& slots, const std::vector<float>& actual) {
    std::vector<double> expected, bound;
    for (size_t row = 0; row < slots.size(); ++row) {
      for (int head = 0; head < shape.heads; ++head) {
        std::vector<KeyValue> tokens;
        for (const int32_t slot : slots[row])
          tokens.push_back(cache.At(slot, head / (shape.heads / shape.kv_heads)));
        if (tokens.empty()) {
          expected.insert(expected.end(), shape.head_dim, 0.0);
          bound.insert(bound.end(), shape.head_dim, 0.0);
        } else {
          AppendAttention(&q[row * shape.q_stride() + head * shape.head_dim], tokens, shape.head_dim,
                          activation_unit(), expected, bound);
        }
      }
    }
    EXPECT_TRUE(AllNear(actual, expected, bound)) << "heads " << shape.heads << "/" << shape.kv_heads << " x "
                                                  << shape.head_dim << ", " << slots.size() << " rows";
  }
};

std::vector<int32_t> AllSlots(const Cache& cache, const PagedRow& row) {
  std::vector<int32_t> slots;
  for (int position = 0; position < row.length; ++position) slots.push_back(cache.Slot(row.slot, position));
  return slots;
}

// `count` of the row's tokens, in logical order.
std::vector<int32_t> SomeSlots(const Cache& cache, const PagedRow& row, int count, Random& random) {
  std::vector<int32_t> positions = random.Permutation(row.length);
  positions.resize(count);
  std::sort(positions.begin(), positions.end());
  for (int32_t& position : positions) position = cache.Slot(row.slot, position);
  return positions;
}

std::vector<PagedRow> Consecutive(int slot, int length, int count) {
  std::vector<PagedRow> rows;
  for (int i = 0; i < count; ++i) rows.push_back({slot, length + i});
  return rows;
}

std::vector<float> RowOf(const std::vector<float>& values, size_t width, size_t row) {
  return {values.begin() + row * width, values.begin() + (row + 1) * width};
}

TEST_P(PagedAttentionTest, DenseMatchesTheDefinition) {
  for (const Shape& shape : Shapes()) {
    Random random(shape.heads);
    Cache cache(shape, kMaxTokens, random);
    const DeviceCache device = Load(cache);
    std::vector<std::vector<PagedRow>> batches = {
        {{0, 1}}, {{1, 64}}, {{0, 65}, {1, 513}, {1, 1}}, {{1, 1100}}};
    for (const int num_rows : {3, 17}) batches.push_back(Consecutive(num_rows % 2, 500, num_rows));
    if (shape.q_width() <= 1024) batches.push_back(Consecutive(1, 500, 65));
    for (const std::vector<PagedRow>& rows : batches) {
      const std::vector<float> q = Queries(shape, rows.size(), random);
      std::vector<std::vector<int32_t>> slots;
      for (const PagedRow& row : rows) slots.push_back(AllSlots(cache, row));
      ExpectReference(shape, cache, q, slots, Dense(shape, device, q, rows));
    }
  }
}

// Long enough for all blocks of a device to share one row, beside rows that are short, and for its table to
// be a small part of what the tables have room for.
TEST_P(PagedAttentionTest, DenseSharesLongRows) {
  if (!on_cuda()) GTEST_SKIP() << "a CPU cuts rows of any length alike";
  const Shape shape = {.heads = 5, .kv_heads = 1, .head_dim = 128};
  Random random(5);
  Cache cache(shape, 34000, random);
  const DeviceCache device = Load(cache);
  const std::vector<std::vector<PagedRow>> batches = {{{0, 34000}},
                                                      {{1, 33999}, {0, 3}, {1, 4096}, {0, 33801}},
                                                      {{0, 1024}, {1, 1025}, {0, 2047}, {1, 12345}}};
  for (const std::vector<PagedRow>& rows : batches) {
    const std::vector<float> q = Queries(shape, rows.size(), random);
    std::vector<std::vector<int32_t>> slots;
    for (const PagedRow& row : rows) slots.push_back(AllSlots(cache, row));
    ExpectReference(shape, cache, q, slots, Dense(shape, device, q, rows));
  }
  constexpr int kWideTable = 5000;
  std::vector<int32_t> tables(Cache::kSequences * kWideTable, 0);
  for (int i = 0; i < Cache::kSequences; ++i) {
    std::copy_n(cache.tables.begin() + i * cache.max_blocks, cache.max_blocks,
                tables.begin() + i * kWideTable);
  }
  const std::vector<float> q = Queries(shape, 1, random);
  const PagedRow row = {1, 18765};
  const DeviceCache wide = {kWideTable, Upload(tables), Activations(cache.tokens)};
  ExpectReference(shape, cache, q, {AllSlots(cache, row)}, Dense(shape, wide, q, {row}));
}

TEST_P(PagedAttentionTest, SparseMatchesTheDefinition) {
  for (const Shape& shape : Shapes()) {
    Random random(shape.head_dim);
    Cache cache(shape, kMaxTokens, random);
    const DeviceCache device = Load(cache);
    for (const int num_rows : {1, 3, 17, 40}) {
      if (num_rows == 40 && shape.q_width() > 2048) continue;
      std::vector<std::vector<int32_t>> chosen;
      for (int i = 0; i < num_rows; ++i) {
        constexpr int kCounts[] = {1, 5, 64, 100, 513, 1050};
        const PagedRow row = {i % Cache::kSequences, 1060 + i};
        chosen.push_back(SomeSlots(cache, row, kCounts[(i + num_rows) % 6], random));
      }
      const std::vector<float> q = Queries(shape, num_rows, random);
      ExpectReference(shape, cache, q, chosen, Sparse(shape, device, q, chosen));
    }
  }
}

// As many as a model chooses, in the order and number of times that somebody asked for, with room for more.
TEST_P(PagedAttentionTest, SparseTakesSlotsAsTheyCome) {
  for (const Shape& shape : {Shape{.heads = 8, .kv_heads = 2, .head_dim = 128},
                             Shape{.heads = 4, .kv_heads = 4, .head_dim = 64}}) {
    Random random(31);
    Cache cache(shape, kMaxTokens, random);
    const DeviceCache device = Load(cache);
    for (const int num_rows : {1, 5}) {
      std::vector<std::vector<int32_t>> chosen(num_rows);
      for (std::vector<int32_t>& row : chosen) {
        const int count = 2048 - random.Below(3) * 700;
        for (int i = 0; i < count; ++i) row.push_back(cache.Slot(random.Below(2), random.Below(kMaxTokens)));
      }
      chosen[0].assign(2048, cache.Slot(1, 77));
      const std::vector<float> q = Queries(shape, num_rows, random);
      for (const size_t spare : {0, 100, 30000}) {
        ExpectReference(shape, cache, q, chosen, Sparse(shape, device, q, chosen, 2, spare));
      }
    }
  }
}

// Rows that mean nothing read nothing: their slots and tables are poison or name blocks of NaN.
TEST_P(PagedAttentionTest, PaddingRowsAreZero) {
  for (const Shape& shape : Shapes()) {
    Random random(41);
    Cache cache(shape, kMaxTokens, random);
    const DeviceCache device = Load(cache);
    const std::vector<PagedRow> rows = {{-1, 0}, {0, 0}, {1, 900}, {-1, 0}, {0, 70}, {-1, 0}};
    const std::vector<float> q = Queries(shape, rows.size(), random);
    std::vector<std::vector<int32_t>> slots;
    for (const PagedRow& row : rows) slots.push_back(AllSlots(cache, row));
    ExpectReference(shape, cache, q, slots, Sparse(shape, device, q, slots));
    ExpectReference(shape, cache, q, slots, Dense(shape, device, q, rows));
    const std::vector<float> one = RowOf(q, shape.q_stride(), 0);
    ExpectReference(shape, cache, one, {{}}, Sparse(shape, device, one, {{}}));
    ExpectReference(shape, cache, one, {{}}, Dense(shape, device, one, {{-1, 0}}));
  }
}

// Choosing every token is dense attention: to the bit where both sum in runs of the same length, which on
// CUDA are longer for dense attention.
TEST_P(PagedAttentionTest, SparseOverAllTokensIsDense) {
  for (const Shape& shape : Shapes()) {
    Random random(11);
    Cache cache(shape, kMaxTokens, random);
    const DeviceCache device = Load(cache);
    const std::vector<PagedRow> rows = {{1, 700}, {0, 64}, {0, 1}, {1, 1025}};
    const std::vector<float> q = Queries(shape, rows.size(), random);
    std::vector<std::vector<int32_t>> chosen;
    for (const PagedRow& row : rows) chosen.push_back(AllSlots(cache, row));
    if (on_cuda() && shape.head_dim == 128) {
      ExpectReference(shape, cache, q, chosen, Sparse(shape, device, q, chosen));
    } else {
      EXPECT_TRUE(SameBits(Sparse(shape, device, q, chosen), Dense(shape, device, q, rows)));
    }
  }
}

// Invariant I5. One thread computes a run at a time, three share the ranges of few runs: all paths must
// agree.
TEST_P(PagedAttentionTest, DenseBatchesAndThreadsDoNotChangeBits) {
  for (const Shape& shape : Shapes()) {
    Random random(12);
    Cache cache(shape, kMaxTokens, random);
    const DeviceCache device = Load(cache);
    std::vector<PagedRow> rows = Consecutive(0, 1000, 40);
    rows.push_back({1, 1100});
    rows.push_back({0, 3});
    const std::vector<float> q = Queries(shape, rows.size(), random);
    const std::vector<float> one = Dense(shape, device, q, rows, 1);
    for (const int num_threads : {2, 3})
      EXPECT_TRUE(SameBits(Dense(shape, device, q, rows, num_threads), one));
    for (const size_t row : {0, 25, 39, 40, 41}) {
      for (const int num_threads : {1, 3}) {
        const std::vector<float> alone =
            Dense(shape, device, RowOf(q, shape.q_stride(), row), {rows[row]}, num_threads);
        EXPECT_TRUE(SameBits(alone, RowOf(one, shape.q_width(), row))) << "row " << row;
      }
    }
  }
}

TEST_P(PagedAttentionTest, SparseBatchesAndThreadsDoNotChangeBits) {
  for (const Shape& shape : Shapes()) {
    Random random(13);
    Cache cache(shape, kMaxTokens, random);
    const DeviceCache device = Load(cache);
    std::vector<std::vector<int32_t>> chosen;
    for (int row = 0; row < 20; ++row) {
      chosen.push_back(SomeSlots(cache, {row % 2, 1100}, row == 7 ? 1 : 50 * row + 40, random));
    }
    const std::vector<float> q = Queries(shape, chosen.size(), random);
    const std::vector<float> one = Sparse(shape, device, q, chosen, 1);
    for (const int num_threads : {2, 3})
      EXPECT_TRUE(SameBits(Sparse(shape, device, q, chosen, num_threads), one));
    for (const size_t row : {0, 7, 12, 19}) {
      for (const int num_threads : {1, 3}) {
        const std::vector<float> alone =
            Sparse(shape, device, RowOf(q, shape.q_stride(), row), {chosen[row]}, num_threads);
        EXPECT_TRUE(SameBits(alone, RowOf(one, shape.q_width(), row))) << "row " << row;
      }
    }
  }
}

YOIO_TEST_ON_BACKENDS(PagedAttentionTest);

}  // namespace
}  // namespace yoio::test
