// What the indexer of one decode step costs: scores over the whole cache, exact top-k, translation to slots.
//
//   index_bench [--threads=N]
//
// One line a shape: microseconds, bytes that must be read per second, and the floor (those bytes at the read
// bandwidth that the same threads reach on as much memory) divided by what was measured.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "base/check.h"
#include "bench/measure.h"
#include "kernels/backend.h"
#include "tests/support/random.h"

namespace yoio::bench {
namespace {

using kernels::Backend;
using kernels::Buffer;
using kernels::kBlockTokens;
using kernels::PagedRow;
using kernels::Stream;

constexpr int kDim = 128;
constexpr int kTopK = 2048;

template <typename T>
Buffer Upload(Backend& backend, Stream& stream, const std::vector<T>& values) {
  absl::StatusOr<Buffer> buffer = backend.Allocate(values.size() * sizeof(T));
  YOIO_CHECK(buffer.ok()) << buffer.status().ToString();
  backend.CopyToDevice(buffer->data(), values.data(), values.size() * sizeof(T), stream);
  return *std::move(buffer);
}

// `rows` rows that read `sequences` caches of `context` tokens each, in shuffled blocks.
class IndexBench {
 public:
  IndexBench(Backend& backend, Stream& stream, ThreadPool& pool, int context, int rows, int sequences)
      : backend_(backend),
        stream_(stream),
        context_(context),
        rows_(rows),
        max_blocks_(context / kBlockTokens) {
    test::Random random(1);
    const int blocks = sequences * max_blocks_;
    keys_ = Upload(backend, stream, random.Normals(static_cast<size_t>(blocks) * kBlockTokens * kDim));
    q_ = Upload(backend, stream, random.Normals(rows * kDim));
    tables_ = Upload(backend, stream, random.Permutation(blocks));
    std::vector<PagedRow> paged(rows);
    for (int i = 0; i < rows; ++i) paged[i] = {i * sequences / rows, context};
    paged_ = Upload(backend, stream, paged);
    scores_ = Upload(backend, stream, std::vector<float>(static_cast<size_t>(rows) * context));
    positions_ = Upload(backend, stream, std::vector<int32_t>(rows * kTopK));
    slots_ = Upload(backend, stream, std::vector<int32_t>(rows * kTopK));
    count_ = Upload(backend, stream, std::vector<int32_t>(rows));
    key_bytes_ = static_cast<double>(keys_.bytes());
    score_bytes_ = static_cast<double>(scores_.bytes());
    key_bandwidth_ = ReadBandwidth(pool, keys_.bytes());
    score_bandwidth_ = ReadBandwidth(pool, scores_.bytes());
  }

  void Run() {
    Report("index-scores", MedianSeconds([&] { Scores(); }), key_bytes_, key_bandwidth_);
    Report("top-k", MedianSeconds([&] { TopK(); }), score_bytes_, score_bandwidth_);
    Report("translate", MedianSeconds([&] { Translate(); }), 4.0 * rows_ * kTopK, score_bandwidth_);
  }

 private:
  void Scores() {
    backend_.IndexScores({.q = q_.As<float>(),
                          .keys = keys_.As<float>(),
                          .block_tables = tables_.As<int32_t>(),
                          .max_blocks = max_blocks_,
                          .rows = paged_.As<PagedRow>(),
                          .num_rows = rows_,
                          .dim = kDim,
                          .scores = scores_.As<float>(),
                          .score_stride = context_},
                         stream_);
  }

  void TopK() {
    backend_.TopK({.scores = scores_.As<float>(),
                   .score_stride = context_,
                   .rows = paged_.As<PagedRow>(),
                   .num_rows = rows_,
                   .top_k = kTopK,
                   .positions = positions_.As<int32_t>(),
                   .count = count_.As<int32_t>()},
                  stream_);
  }

  void Translate() {
    backend_.TranslateIndex({.positions = positions_.As<int32_t>(),
                             .count = count_.As<int32_t>(),
                             .block_tables = tables_.As<int32_t>(),
                             .max_blocks = max_blocks_,
                             .rows = paged_.As<PagedRow>(),
                             .num_rows = rows_,
                             .top_k = kTopK,
                             .slots = slots_.As<int32_t>()},
                            stream_);
  }

  void Report(const char* what, double seconds, double bytes, double bandwidth) const {
    std::printf("%-13s context %6d  rows %3d  %9.1f us  %7.2f GB/s  floor %8.1f us  ratio %.2f\n", what,
                context_, rows_, seconds * 1e6, bytes / seconds * 1e-9, bytes / bandwidth * 1e6,
                bytes / bandwidth / seconds);
  }

  Backend& backend_;
  Stream& stream_;
  const int context_;
  const int rows_;
  const int max_blocks_;
  Buffer keys_, q_, tables_, paged_, scores_, positions_, slots_, count_;
  double key_bytes_ = 0;
  double score_bytes_ = 0;
  double key_bandwidth_ = 0;
  double score_bandwidth_ = 0;
};

void RunAll(int num_threads) {
  absl::StatusOr<std::unique_ptr<Backend>> backend = kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
  YOIO_CHECK(backend.ok()) << backend.status().ToString();
  absl::StatusOr<std::unique_ptr<Stream>> stream = (*backend)->NewStream(num_threads);
  YOIO_CHECK(stream.ok()) << stream.status().ToString();
  ThreadPool pool(num_threads);
  for (const int context : {4096, 65536, 131072}) {
    IndexBench(**backend, **stream, pool, context, /*rows=*/1, /*sequences=*/1).Run();
    IndexBench(**backend, **stream, pool, context, /*rows=*/4, /*sequences=*/4).Run();
    IndexBench(**backend, **stream, pool, context, /*rows=*/64, /*sequences=*/1).Run();
  }
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  int num_threads = static_cast<int>(std::thread::hardware_concurrency());
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--threads=", 10) != 0 || (num_threads = std::atoi(argv[i] + 10)) < 1) {
      std::fprintf(stderr, "usage: %s [--threads=N]\n", argv[0]);
      return 1;
    }
  }
  yoio::bench::RunAll(num_threads);
  return 0;
}
