#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/attention_reference.h"
#include "tests/support/backend_test.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::kBlockTokens;
using kernels::SequenceSpan;

struct Shape {
  int heads;
  int kv_heads;
  int head_dim;
  int window;
  int gap = 0;  // floats between the rows of q, k and v

  int row_width() const { return (heads + 2 * kv_heads) * head_dim; }
  int row_stride() const { return row_width() + gap; }
  int token_width() const { return kv_heads * 2 * head_dim; }
  int ring_tokens() const { return ((window + kBlockTokens - 1) / kBlockTokens + 1) * kBlockTokens; }
};

// The projections of one sequence, from its first token on: [tokens, q | k | v].
struct Sequence {
  Sequence(const Shape& shape, int num_tokens, Random& random)
      : shape(shape), rows(random.Normals(static_cast<size_t>(num_tokens) * shape.row_width())) {}

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

class WindowAttentionTest : public BackendTest {
 protected:
  // Runs the chunks in one call, each with a ring of its own, and returns the rows of all of them. What a
  // ring no longer or never held is NaN, and so is all around the rows.
  std::vector<float> Run(const Shape& shape, const std::vector<Chunk>& chunks, int num_threads = 2) {
    int num_rows = 0;
    std::vector<SequenceSpan> spans;
    std::vector<float> rows, rings;
    const int ring_width = shape.ring_tokens() * shape.token_width();
    for (size_t i = 0; i < chunks.size(); ++i) {
      const Chunk& chunk = chunks[i];
      const int slot = static_cast<int>(chunks.size() - 1 - i);
      spans.push_back({num_rows, chunk.end - chunk.begin, chunk.begin, slot});
      num_rows += chunk.end - chunk.begin;
      for (int position = chunk.begin; position < chunk.end; ++position) {
        const float* row = chunk.sequence->q(position, 0);
        rows.insert(rows.end(), row, row + shape.row_width());
        rows.insert(rows.end(), shape.gap, PoisonValue<float>());
      }
    }
    rings.assign(chunks.size() * ring_width, PoisonValue<float>());
    for (size_t i = 0; i < chunks.size(); ++i) {
      const Sequence& sequence = *chunks[i].sequence;
      for (int position = std::max(0, chunks[i].begin - shape.ring_tokens()); position < chunks[i].begin;
           ++position) {
        float* token = &rings[static_cast<size_t>(spans[i].slot) * ring_width +
                              position % shape.ring_tokens() * shape.token_width()];
        for (int head = 0; head < shape.kv_heads; ++head) {
          token = std::copy_n(sequence.k(position, head), shape.head_dim, token);
          token = std::copy_n(sequence.v(position, head), shape.head_dim, token);
        }
      }
    }
    const DeviceArray<float> device_rows = Upload(rows), device_rings = Upload(rings);
    const DeviceArray<float> out =
        Poisoned<float>(static_cast<size_t>(num_rows) * shape.heads * shape.head_dim);
    backend().WindowAttention({.q = device_rows.data(),
                               .k = device_rows.data() + shape.heads * shape.head_dim,
                               .v = device_rows.data() + (shape.heads + shape.kv_heads) * shape.head_dim,
                               .row_stride = shape.row_stride(),
                               .ring = device_rings.data(),
                               .ring_tokens = shape.ring_tokens(),
                               .window = shape.window,
                               .spans = spans.data(),
                               .num_spans = static_cast<int>(spans.size()),
                               .num_rows = num_rows,
                               .heads = shape.heads,
                               .kv_heads = shape.kv_heads,
                               .head_dim = shape.head_dim,
                               .out = out.data()},
                              stream(num_threads));
    return out.Read();
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
          AppendAttention(chunk.sequence->q(position, head), tokens, shape.head_dim, expected, bound);
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
    {.heads = 8, .kv_heads = 2, .head_dim = 64, .window = 70, .gap = 7},
    {.heads = 3, .kv_heads = 1, .head_dim = 32, .window = 1},
    {.heads = 6, .kv_heads = 2, .head_dim = 128, .window = 512, .gap = 16},
    {.heads = 5, .kv_heads = 1, .head_dim = 42, .window = 1000},
};

TEST_P(WindowAttentionTest, MatchesTheDefinition) {
  for (const Shape& shape : kShapes) {
    Random random(shape.head_dim);
    const Sequence sequence(shape, 1100, random);
    // From the first token on, within the first window, and after the ring has wrapped.
    for (const auto& [begin, num_rows] : {std::pair(0, 1), {0, 3}, {0, 65}, {10, 17}, {990, 1}, {1000, 65}}) {
      ExpectReference(shape, {{&sequence, begin, begin + num_rows}});
    }
  }
}

TEST_P(WindowAttentionTest, SeveralSequencesInOneCall) {
  for (const Shape& shape : kShapes) {
    Random random(shape.window);
    const Sequence first(shape, 300, random), second(shape, 300, random);
    ExpectReference(shape, {{&first, 90, 120}, {&second, 299, 300}, {&second, 0, 1}, {&first, 128, 192}});
  }
}

// Invariant I5: whatever the chunks and whoever else is in the batch.
TEST_P(WindowAttentionTest, ChunksAndBatchesDoNotChangeBits) {
  for (const Shape& shape : kShapes) {
    Random random(shape.heads);
    const Sequence sequence(shape, 700, random), other(shape, 700, random);
    const std::vector<float> whole = Run(shape, {{&sequence, 0, 700}});
    const size_t width = static_cast<size_t>(shape.heads) * shape.head_dim;
    std::vector<float> chunked;
    int begin = 0;
    for (const int size : {1, 63, 64, 7, 1, 1, 130, 200, 32, 201}) {
      const std::vector<float> rows =
          Run(shape, {{&other, 0, 5}, {&sequence, begin, begin + size}, {&other, 90, 91}});
      chunked.insert(chunked.end(), rows.begin() + 5 * width, rows.end() - width);
      begin += size;
    }
    ASSERT_EQ(begin, 700);
    EXPECT_TRUE(SameBits(chunked, whole)) << "window " << shape.window;
    for (const int position : {0, 1, 64, 511, 512, 513, 640, 699}) {
      const std::vector<float> alone = Run(shape, {{&sequence, position, position + 1}});
      const std::vector<float> expected(whole.begin() + position * width,
                                        whole.begin() + (position + 1) * width);
      EXPECT_TRUE(SameBits(alone, expected)) << "window " << shape.window << ", position " << position;
    }
  }
}

TEST_P(WindowAttentionTest, ThreadsDoNotChangeBits) {
  for (const Shape& shape : kShapes) {
    Random random(shape.gap);
    const Sequence sequence(shape, 800, random);
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
  Sequence sequence(shape, kRows, random);
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
