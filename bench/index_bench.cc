// What the indexer of one decode step costs: scores over the whole cache, exact top-k, translation to slots.
//
//   index_bench [--threads N] [--json FILE]
//
// Names are what/shape/context/rows. The floor of a time is what must be read, at the bandwidth that the same
// threads reach on as much memory. `batch` rows belong to as many sequences; `score` rows all belong to one,
// as when a prompt is scored: they are bound by arithmetic, and their floor is far.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "bench/measure.h"
#include "bench/report.h"
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
    q_ = Upload(backend, stream, random.Normals(size_t{kDim} * rows));
    tables_ = Upload(backend, stream, random.Permutation(blocks));
    std::vector<PagedRow> paged(rows);
    for (int i = 0; i < rows; ++i) paged[i] = {i * sequences / rows, context};
    paged_ = Upload(backend, stream, paged);
    scores_ = Upload(backend, stream, std::vector<float>(static_cast<size_t>(rows) * context));
    positions_ = Upload(backend, stream, std::vector<int32_t>(size_t{kTopK} * rows));
    slots_ = Upload(backend, stream, std::vector<int32_t>(size_t{kTopK} * rows));
    count_ = Upload(backend, stream, std::vector<int32_t>(rows));
    key_bytes_ = static_cast<double>(keys_.bytes());
    score_bytes_ = static_cast<double>(scores_.bytes());
    key_bandwidth_ = ReadBandwidth(pool, keys_.bytes());
    score_bandwidth_ = ReadBandwidth(pool, scores_.bytes());
  }

  void Run(const std::string& kind, Report& report) {
    const std::string shape = absl::StrCat("/", kind, "-dim", kDim, "/", context_, "/", rows_);
    const double seconds = MedianSeconds([&] { Scores(); });
    report.Add({"index-scores" + shape, seconds * 1e6, "us", key_bytes_ / key_bandwidth_ * 1e6});
    report.Add({"index-read" + shape, key_bytes_ / seconds * 1e-9, "GB/s", key_bandwidth_ * 1e-9});
    report.Add(
        {"top-k" + shape, MedianSeconds([&] { TopK(); }) * 1e6, "us", score_bytes_ / score_bandwidth_ * 1e6});
    report.Add({"translate" + shape, MedianSeconds([&] { Translate(); }) * 1e6, "us"});
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

void RunAll(int num_threads, Report& report) {
  absl::StatusOr<std::unique_ptr<Backend>> backend = kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
  YOIO_CHECK(backend.ok()) << backend.status().ToString();
  absl::StatusOr<std::unique_ptr<Stream>> stream = (*backend)->NewStream(num_threads);
  YOIO_CHECK(stream.ok()) << stream.status().ToString();
  ThreadPool pool(num_threads);
  for (const int context : {4096, 65536, 131072}) {
    for (const int rows : {1, 4}) {
      IndexBench(**backend, **stream, pool, context, rows, /*sequences=*/rows).Run("batch", report);
    }
    IndexBench(**backend, **stream, pool, context, /*rows=*/64, /*sequences=*/1).Run("score", report);
  }
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures the indexer's operations on this machine");
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::string json;
  app.add_option("--threads", threads, "Threads of the stream")->check(CLI::PositiveNumber);
  app.add_option("--json", json, "Write the results to this file");
  CLI11_PARSE(app, argc, argv);
  yoio::bench::Report report(argc, argv);
  yoio::bench::RunAll(threads, report);
  return report.Write(json) ? 0 : 1;
}
