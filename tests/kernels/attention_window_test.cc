#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/attention_reference.h"
#include "tests/support/backend_test.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::kBlockTokens;
using kernels::PagedRow;
using kernels::SequenceSpan;

struct Shape {
  int heads;
  int kv_heads;
  int head_dim;
  int window;
  int gap = 0;  // elements between the rows of q, k and v
  bool cuda_only = false;

  int row_width() const { return (heads + 2 * kv_heads) * head_dim; }
  int row_stride() const { return row_width() + gap; }
  int token_width() const { return kv_heads * 2 * head_dim; }
  int ring_tokens() const { return ((window + kBlockTokens - 1) / kBlockTokens + 1) * kBlockTokens; }
};

// The projections of one sequence, from its first token on: [tokens, q | k | v].
struct Sequence {
  const float* q(int position, int head) const { return At(position, head); }
  const float* k(int position, int kv_head) const { return At(position, shape.heads + kv_head); }
  const float* v(int position, int kv_head) const {
    return At(position, shape.heads + shape.kv_heads + kv_head);
  }

  Shape shape;
  std::vector<float> rows;

 private:
  const float* At(int position, int head) const {
    return &rows[static_cast<size_t>(position) * shape.row_width() + head * shape.head_dim];
  }
};

// The tokens [begin, end) of one sequence, whose earlier ones are in its ring.
struct Chunk {
  const Sequence* sequence;
  int begin;
  int end;
};

// One call: every chunk is a span with a ring of its own. What a ring no longer or never held is NaN, and so
// is all around the rows.
struct Batch {
  std::vector<SequenceSpan> spans;
  std::vector<PagedRow> paged_rows;
  std::vector<int32_t> ring_slots;
  std::vector<float> rows;
  std::vector<float> rings;       // before
  std::vector<float> next_rings;  // after
};

Batch MakeBatch(const Shape& shape, const std::vector<Chunk>& chunks) {
  const int ring_tokens = shape.ring_tokens();
  Batch batch;
  batch.rings.assign(chunks.size() * ring_tokens * shape.token_width(), PoisonValue<float>());
  const auto write = [&](const Sequence& sequence, int position, int ring_slot, std::vector<float>& rings) {
    float* token = &rings[static_cast<size_t>(ring_slot) * shape.token_width()];
    for (int head = 0; head < shape.kv_heads; ++head) {
      token = std::copy_n(sequence.k(position, head), shape.head_dim, token);
      token = std::copy_n(sequence.v(position, head), shape.head_dim, token);
    }
  };
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto& [sequence, begin, end] = chunks[i];
    const int slot = static_cast<int>(chunks.size() - 1 - i);
    batch.spans.push_back({static_cast<int32_t>(batch.paged_rows.size()), end - begin, begin, slot});
    for (int position = std::max(0, begin - ring_tokens); position < begin; ++position) {
      write(*sequence, position, slot * ring_tokens + position % ring_tokens, batch.rings);
    }
    for (int position = begin; position < end; ++position) {
      const float* row = sequence->q(position, 0);
      batch.rows.insert(batch.rows.end(), row, row + shape.row_width());
      batch.rows.insert(batch.rows.end(), shape.gap, PoisonValue<float>());
      batch.paged_rows.push_back({slot, position + 1});
      const bool stays = position + ring_tokens >= end;  // no later row of the chunk takes its place
      batch.ring_slots.push_back(stays ? slot * ring_tokens + position % ring_tokens : -1);
    }
  }
  batch.next_rings = batch.rings;
  size_t row = 0;
  for (const Chunk& chunk : chunks) {
    for (int position = chunk.begin; position < chunk.end; ++position, ++row) {
      if (batch.ring_slots[row] >= 0) {
        write(*chunk.sequence, position, batch.ring_slots[row], batch.next_rings);
      }
    }
  }
  return batch;
}

class WindowAttentionTest : public BackendTest {
 protected:
  Sequence MakeSequence(const Shape& shape, int num_tokens, Random& random) {
    const size_t count = static_cast<size_t>(num_tokens) * shape.row_width();
    return {shape, Activations(random.Normals(count)).values()};
  }

  // The shapes of kShapes for this backend: CUDA moves sixteen bytes at a time, and a CPU, which has one way
  // for all, computes few large ones.
  std::vector<Shape> Shapes() const;

  // Returns the outputs and checks the rings. Without spans, every chunk has to be of one row. The last
  // `generated_rows` rows are generated.
  std::vector<float> Run(const Shape& shape, const Batch& batch, bool with_spans = true, int num_threads = 2,
                         int generated_rows = 0) {
    const ActivationArray rows = Activations(batch.rows), rings = Activations(batch.rings);
    const DeviceArray<PagedRow> paged_rows = Upload(batch.paged_rows);
    const DeviceArray<int32_t> ring_slots = Upload(batch.ring_slots);
    const size_t num_rows = batch.paged_rows.size();
    const ActivationArray out = PoisonedActivations(num_rows * shape.heads * shape.head_dim);
    backend().WindowAttention({.q = rows.data(),
                               .k = rows.at(shape.heads * shape.head_dim),
                               .v = rows.at((shape.heads + shape.kv_heads) * shape.head_dim),
                               .row_stride = shape.row_stride(),
                               .ring = rings.data(),
                               .ring_slots = ring_slots.data(),
                               .ring_tokens = shape.ring_tokens(),
                               .window = shape.window,
                               .spans = with_spans ? batch.spans.data() : nullptr,
                               .num_spans = with_spans ? static_cast<int>(batch.spans.size()) : 0,
                               .rows = paged_rows.data(),
                               .num_rows = static_cast<int>(num_rows),
                               .num_prompt_rows = static_cast<int>(num_rows) - generated_rows,
                               .heads = shape.heads,
                               .kv_heads = shape.kv_heads,
                               .head_dim = shape.head_dim,
                               .out = out.data()},
                              stream(num_threads));
    EXPECT_TRUE(SameBits(rings.Read(), batch.next_rings)) << "rings";
    return out.Read();
  }

  std::vector<float> Run(const Shape& shape, const std::vector<Chunk>& chunks, int num_threads = 2) {
    return Run(shape, MakeBatch(shape, chunks), true, num_threads);
  }

  void ExpectReference(const Shape& shape, const std::vector<Chunk>& chunks) {
    std::vector<double> expected, bound;
    for (const Chunk& chunk : chunks) {
      for (int position = chunk.begin; position < chunk.end; ++position) {
        for (int head = 0; head < shape.heads; ++head) {
          const int kv_head = head / (shape.heads / shape.kv_heads);
          std::vector<KeyValue> tokens;
          for (int p = std::max(0, position + 1 - shape.window); p <= position; ++p) {
            tokens.push_back({chunk.sequence->k(p, kv_head), chunk.sequence->v(p, kv_head)});
          }
          AppendAttention(chunk.sequence->q(position, head), tokens, shape.head_dim, activation_unit(),
                          expected, bound);
        }
      }
    }
    EXPECT_TRUE(AllNear(Run(shape, chunks), expected, bound))
        << "heads " << shape.heads << "/" << shape.kv_heads << " x " << shape.head_dim << ", window "
        << shape.window;
  }
};

constexpr Shape kShapes[] = {
    {.heads = 4, .kv_heads = 4, .head_dim = 16, .window = 24},
    {.heads = 8, .kv_heads = 2, .head_dim = 64, .window = 70, .gap = 8},
    {.heads = 3, .kv_heads = 1, .head_dim = 32, .window = 1},
    {.heads = 6, .kv_heads = 2, .head_dim = 128, .window = 512, .gap = 16},
    {.heads = 10, .kv_heads = 2, .head_dim = 128, .window = 200, .cuda_only = true},
    {.heads = 4, .kv_heads = 1, .head_dim = 128, .window = 1024, .cuda_only = true},
    {.heads = 2, .kv_heads = 2, .head_dim = 256, .window = 100, .cuda_only = true},
    {.heads = 4, .kv_heads = 2, .head_dim = 88, .window = 65, .cuda_only = true},
    {.heads = 5, .kv_heads = 1, .head_dim = 42, .window = 1000},
};

std::vector<Shape> WindowAttentionTest::Shapes() const {
  std::vector<Shape> shapes;
  for (const Shape& shape : kShapes) {
    const bool taken = on_cuda() ? shape.head_dim % 8 == 0 : !shape.cuda_only;
    if (taken) shapes.push_back(shape);
  }
  return shapes;
}

TEST_P(WindowAttentionTest, MatchesTheDefinition) {
  for (const Shape& shape : Shapes()) {
    Random random(shape.head_dim);
    const Sequence sequence = MakeSequence(shape, 1100, random);
    // From the first token on, within the first window, and after the ring has wrapped.
    for (const auto& [begin, num_rows] :
         {std::pair(0, 1), {0, 3}, {0, 65}, {10, 17}, {990, 1}, {1000, 65}, {450, 130}}) {
      ExpectReference(shape, {{&sequence, begin, begin + num_rows}});
    }
  }
}

TEST_P(WindowAttentionTest, SeveralSequencesInOneCall) {
  for (const Shape& shape : Shapes()) {
    Random random(shape.window);
    const Sequence first = MakeSequence(shape, 300, random), second = MakeSequence(shape, 300, random);
    ExpectReference(shape, {{&first, 90, 120}, {&second, 299, 300}, {&second, 0, 1}, {&first, 128, 192}});
  }
}

// More spans than travel in one launch of a device.
TEST_P(WindowAttentionTest, ManyShortChunks) {
  const Shape shape = {.heads = 4, .kv_heads = 2, .head_dim = 32, .window = 20};
  Random random(10);
  const Sequence sequence = MakeSequence(shape, 400, random);
  std::vector<Chunk> chunks;
  for (int i = 0; i < 150; ++i) chunks.push_back({&sequence, 2 * i, 2 * i + 2 + i % 3});
  ExpectReference(shape, chunks);
}

TEST_P(WindowAttentionTest, WithoutSpansEachRowIsOne) {
  for (const Shape& shape : Shapes()) {
    Random random(shape.head_dim);
    const Sequence first = MakeSequence(shape, 1100, random), second = MakeSequence(shape, 1100, random);
    const Batch batch = MakeBatch(shape, {{&first, 0, 1},
                                          {&second, 0, 1},
                                          {&first, 63, 64},
                                          {&second, 64, 65},
                                          {&first, 700, 701},
                                          {&second, 1099, 1100}});
    EXPECT_TRUE(SameBits(Run(shape, batch, false), Run(shape, batch))) << "window " << shape.window;
  }
}

TEST_P(WindowAttentionTest, PaddingTouchesNothing) {
  for (const Shape& shape : Shapes()) {
    Random random(shape.head_dim);
    const Sequence sequence = MakeSequence(shape, 300, random);
    const Batch alone = MakeBatch(shape, {{&sequence, 299, 300}});
    Batch padded = alone;
    for (int i = 0; i < 3; ++i) {
      padded.paged_rows.push_back({0, 0});
      padded.ring_slots.push_back(-1);
      padded.rows.insert(padded.rows.end(), shape.row_stride(), 1.0f);
    }
    const std::vector<float> expected = Run(shape, alone, false), out = Run(shape, padded, false);
    EXPECT_TRUE(SameBits(std::vector<float>(out.begin(), out.begin() + expected.size()), expected));
    for (const float value : out) EXPECT_TRUE(std::isfinite(value));
  }
}

// Invariant I5: whatever the chunks and whoever else is in the batch. On CUDA a chunk of one row is a decode
// row, which sums in an order of its own.
TEST_P(WindowAttentionTest, ChunksAndBatchesDoNotChangeBits) {
  const std::vector<int> sizes = on_cuda() ? std::vector<int>{2, 62, 64, 7, 2, 130, 200, 32, 201}
                                           : std::vector<int>{1, 63, 64, 7, 1, 1, 130, 200, 32, 201};
  for (const Shape& shape : Shapes()) {
    Random random(shape.heads);
    const Sequence sequence = MakeSequence(shape, 700, random), other = MakeSequence(shape, 700, random);
    const std::vector<float> whole = Run(shape, {{&sequence, 0, 700}});
    const size_t width = static_cast<size_t>(shape.heads) * shape.head_dim;
    std::vector<float> chunked;
    int begin = 0;
    for (const int size : sizes) {
      const std::vector<float> rows =
          Run(shape, {{&other, 0, 5}, {&sequence, begin, begin + size}, {&other, 90, 91}});
      chunked.insert(chunked.end(), rows.begin() + 5 * width, rows.end() - width);
      begin += size;
    }
    ASSERT_EQ(begin, 700);
    EXPECT_TRUE(SameBits(chunked, whole)) << "window " << shape.window;
    for (const int position : {0, 1, 64, 511, 512, 513, 640, 699}) {
      const std::vector<float> alone = Run(shape, {{&sequence, position, position + 1}});
      const std::vector<float> together =
          Run(shape, {{&other, 3, 40}, {&other, 90, 91}, {&sequence, position, position + 1}});
      EXPECT_TRUE(SameBits(alone, std::vector<float>(together.end() - width, together.end())))
          << "window " << shape.window << ", position " << position;
      if (on_cuda()) continue;
      const std::vector<float> expected(whole.begin() + position * width,
                                        whole.begin() + (position + 1) * width);
      EXPECT_TRUE(SameBits(alone, expected)) << "window " << shape.window << ", position " << position;
    }
  }
}

// Generated tokens that are computed again, several of a sequence in one call, between prompts and others.
TEST_P(WindowAttentionTest, GeneratedRowsHaveTheBitsOfOneAtATime) {
  for (const Shape& shape : Shapes()) {
    Random random(shape.window + 1);
    const Sequence sequence = MakeSequence(shape, 1120, random), other = MakeSequence(shape, 1120, random);
    const size_t width = static_cast<size_t>(shape.heads) * shape.head_dim;
    for (const auto& [begin, count] :
         {std::pair(0, 32), {5, 2}, {60, 9}, {shape.ring_tokens() - 3, 32}, {1040, 31}}) {
      const std::vector<Chunk> chunks = {{&other, 30, 60},
                                         {&other, 200, 201},
                                         {&other, 90, 91},
                                         {&sequence, begin, begin + count},
                                         {&other, begin, begin + 4}};
      const std::vector<float> out = Run(shape, MakeBatch(shape, chunks), true, 2, 1 + count + 4);
      for (int i = 0; i < count; ++i) {
        const std::vector<float> alone = Run(shape, {{&sequence, begin + i, begin + i + 1}});
        const auto row = out.begin() + static_cast<std::ptrdiff_t>((32 + i) * width);
        EXPECT_TRUE(SameBits(std::vector<float>(row, row + static_cast<std::ptrdiff_t>(width)), alone))
            << "window " << shape.window << ", position " << begin + i;
      }
    }
  }
}

TEST_P(WindowAttentionTest, ThreadsDoNotChangeBits) {
  for (const Shape& shape : Shapes()) {
    Random random(shape.gap);
    const Sequence sequence = MakeSequence(shape, 800, random);
    const std::vector<std::vector<Chunk>> batches = {{{&sequence, 799, 800}},
                                                     {{&sequence, 500, 777}, {&sequence, 3, 4}}};
    for (const std::vector<Chunk>& chunks : batches) {
      const std::vector<float> one = Run(shape, chunks, 1);
      for (const int num_threads : {2, 3}) EXPECT_TRUE(SameBits(Run(shape, chunks, num_threads), one));
    }
  }
}

// A key that is not a number shows in every row that sees it, and in no other.
TEST_P(WindowAttentionTest, NanReachesTheRowsThatSeeIt) {
  constexpr int kRows = 150, kBroken = 30;
  const Shape shape = {.heads = 4, .kv_heads = 2, .head_dim = 32, .window = 70};
  Random random(9);
  Sequence sequence = MakeSequence(shape, kRows, random);
  const size_t key = kBroken * shape.row_width() + shape.heads * shape.head_dim;  // of the first head
  sequence.rows[key + 5] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> out = Run(shape, {{&sequence, 0, kRows}});
  for (int row = 0; row < kRows; ++row) {
    for (int head = 0; head < shape.heads; ++head) {
      const bool sees = head < 2 && row >= kBroken && row < kBroken + shape.window;
      const float value = out[(static_cast<size_t>(row) * shape.heads + head) * shape.head_dim];
      EXPECT_EQ(std::isnan(value), sees) << "row " << row << ", head " << head;
    }
  }
}

YOIO_TEST_ON_BACKENDS(WindowAttentionTest);

}  // namespace
}  // namespace yoio::test
