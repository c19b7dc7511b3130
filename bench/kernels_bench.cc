// The heavy operations of a step at the shapes of clsa-500m: matrix products, the three attentions, the gate.
//
//   kernels_bench [--threads N] [--json FILE]
//
// Names are what/shape/context/rows; `prompt` rows take the blocked product, `generated` ones the skinny one.
// The floor of a time is the greater of two: the bytes that must be read, at the bandwidth that the same
// threads reach, and the arithmetic, at the rate that the library's own product reaches in this run on the
// same shapes. Weights and caches are larger than any cache of the processor, or rotated through so many
// copies.
#include <cblas.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
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
using kernels::BFloat16;
using kernels::Buffer;
using kernels::DType;
using kernels::kBlockTokens;
using kernels::PagedRow;
using kernels::SequenceSpan;
using kernels::Stream;

constexpr int kHidden = 1536;
constexpr int kFfn = 4096;
constexpr int kHeads = 12;
constexpr int kKvHeads = 4;
constexpr int kHeadDim = 128;
constexpr int kWindow = 512;
constexpr int kTopK = 2048;
constexpr int kVocab = 32768;
constexpr int kPromptRows = 512;
constexpr int kTokenFloats = kKvHeads * 2 * kHeadDim;

// The products of a self-decoder layer, [n, k]: q k v, output, gate and up, down.
constexpr std::pair<int, int> kLayer[] = {{(kHeads + 2 * kKvHeads) * kHeadDim, kHidden},
                                          {kHidden, kHeads* kHeadDim},
                                          {2 * kFfn, kHidden},
                                          {kHidden, kFfn}};

constexpr size_t kCopiesBytes = size_t{768} << 20;  // weights that a product rotates through

struct Ceilings {
  double read = 0;     // bytes/s
  double library = 0;  // FLOP/s over the products of a layer
};

// FLOP/s of the library itself, its weights already fp32, columns divided over the threads.
double LibraryRate(ThreadPool& pool, int n, int k) {
  std::vector<float> x(static_cast<size_t>(kPromptRows) * k, 0.5f), w(static_cast<size_t>(n) * k, 0.25f);
  std::vector<float> y(static_cast<size_t>(kPromptRows) * n);
  const double seconds = BestSeconds([&] {
    pool.RunOnAll([&](int thread) {
      const int begin = n * thread / pool.num_threads(), end = n * (thread + 1) / pool.num_threads();
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kPromptRows, end - begin, k, 1.0f, x.data(), k,
                  w.data() + static_cast<size_t>(begin) * k, k, 0.0f, y.data() + begin, n);
    });
  });
  return 2.0 * kPromptRows * n * k / seconds;
}

class KernelsBench {
 public:
  KernelsBench(Backend& backend, Stream& stream, ThreadPool& pool, Report& report)
      : backend_(backend), stream_(stream), pool_(pool), report_(report) {}

  void Run() {
    MeasureCeilings();
    for (const auto& [n, k] : kLayer) GeneratedProducts(n, k);
    GeneratedProducts(kVocab, kHidden);
    PromptLayer();
    WindowAttention();
    PagedAttention(65536);
    PagedAttention(131072);
    SiluGate(1);
    SiluGate(kPromptRows);
  }

 private:
  template <typename T>
  Buffer Upload(const std::vector<T>& values) {
    absl::StatusOr<Buffer> buffer = backend_.Allocate(values.size() * sizeof(T));
    YOIO_CHECK(buffer.ok()) << buffer.status().ToString();
    backend_.CopyToDevice(buffer->data(), values.data(), values.size() * sizeof(T), stream_);
    return *std::move(buffer);
  }

  // Numbers that repeat: drawing them all would take longer than the measurement.
  Buffer Noise(size_t count) {
    static constexpr size_t kPeriod = 99991;
    std::vector<float> values = random_.Normals(std::min(count, kPeriod));
    values.resize(count);
    for (size_t i = kPeriod; i < count; ++i) values[i] = values[i - kPeriod];
    return Upload(values);
  }

  Buffer NoiseWeights(size_t count) {
    std::vector<BFloat16> values(count);
    const std::vector<float> noise = random_.Normals(4099, 0.02f);
    for (size_t i = 0; i < count; ++i) values[i] = kernels::ToBFloat16(noise[i % noise.size()]);
    return Upload(values);
  }

  // A time, and the share of its floor.
  void AddTime(const std::string& name, double seconds, double bytes, double flops) {
    const double floor = std::max(bytes / ceilings_.read, flops / ceilings_.library);
    report_.Add({name, seconds * 1e6, "us", floor * 1e6});
  }

  void MeasureCeilings() {
    ceilings_.read = ReadBandwidth(pool_, size_t{1} << 30);
    report_.Add({"ceiling/read", ceilings_.read * 1e-9, "GB/s"});
    double flops = 0, seconds = 0;
    for (const auto& [n, k] : kLayer) {
      const double rate = LibraryRate(pool_, n, k);
      report_.Add({absl::StrCat("ceiling/sgemm/", n, "x", k, "/", kPromptRows), rate * 1e-9, "GFLOP/s"});
      flops += 2.0 * kPromptRows * n * k;
      seconds += 2.0 * kPromptRows * n * k / rate;
    }
    ceilings_.library = flops / seconds;
    report_.Add({"ceiling/sgemm/layer", ceilings_.library * 1e-9, "GFLOP/s"});
  }

  void GeneratedProducts(int n, int k) {
    const int64_t size = int64_t{n} * k;
    const int copies = static_cast<int>(std::max<int64_t>(1, kCopiesBytes / (size * sizeof(BFloat16))));
    const Buffer weights = NoiseWeights(size * copies);
    for (const int rows : {1, 2, 4, 8, 16, 32}) {
      int copy = 0;
      const double seconds = MedianSeconds([&] {
        Product(weights.As<BFloat16>() + size * copy, n, k, rows, /*prompt=*/false);
        copy = (copy + 1) % copies;
      });
      const double bytes = static_cast<double>(size) * sizeof(BFloat16);
      AddTime(absl::StrCat("mat-mul/", n, "x", k, "/generated/", rows), seconds, bytes, 2.0 * size * rows);
      if (rows == 1) {
        report_.Add({absl::StrCat("mat-mul-read/", n, "x", k, "/generated/1"), bytes / seconds * 1e-9, "GB/s",
                     ceilings_.read * 1e-9});
      }
    }
  }

  void Product(const BFloat16* weights, int n, int k, int rows, bool prompt) {
    if (x_.bytes() == 0) {
      x_ = Noise(static_cast<size_t>(kPromptRows) * 2 * kFfn);
      y_ = Noise(static_cast<size_t>(kPromptRows) * kVocab);
    }
    backend_.MatMul({.x = x_.As<float>(),
                     .x_stride = k,
                     .w = {weights, DType::kBF16, n, k},
                     .num_rows = rows,
                     .num_prompt_rows = prompt ? rows : 0,
                     .y = y_.As<float>(),
                     .y_stride = n},
                    stream_);
  }

  // Rates of the blocked product, alone and together with the attention of the layer.
  void PromptLayer() {
    double flops = 0, seconds = 0;
    for (const auto& [n, k] : kLayer) {
      const Buffer weights = NoiseWeights(static_cast<size_t>(n) * k);
      for (const int rows : {16, 64, kPromptRows}) {
        const double time =
            MedianSeconds([&] { Product(weights.As<BFloat16>(), n, k, rows, /*prompt=*/true); });
        const double work = 2.0 * rows * n * k;
        report_.Add({absl::StrCat("mat-mul-rate/", n, "x", k, "/prompt/", rows), work / time * 1e-9,
                     "GFLOP/s", ceilings_.library * 1e-9});
        if (rows == kPromptRows) flops += work, seconds += time;
      }
    }
    report_.Add({absl::StrCat("mat-mul-rate/layer/prompt/", kPromptRows), flops / seconds * 1e-9, "GFLOP/s",
                 ceilings_.library * 1e-9});
  }

  void WindowAttention() {
    constexpr int kRingTokens = kWindow + kBlockTokens;
    constexpr int kStart = 8192;
    constexpr int kMaxBatch = 32;
    const int64_t stride = (kHeads + 2 * kKvHeads) * kHeadDim;
    const Buffer rows = Noise(kPromptRows * stride);
    const Buffer ring = Noise(static_cast<size_t>(kMaxBatch) * kRingTokens * kTokenFloats);
    const Buffer out = Noise(static_cast<size_t>(kPromptRows) * kHeads * kHeadDim);
    const auto measure = [&](const std::string& kind, const std::vector<SequenceSpan>& spans, double bytes) {
      const int num_rows = spans.back().row_begin + spans.back().row_count;
      const double seconds = MedianSeconds([&] {
        backend_.WindowAttention({.q = rows.As<float>(),
                                  .k = rows.As<float>() + kHeads * kHeadDim,
                                  .v = rows.As<float>() + (kHeads + kKvHeads) * kHeadDim,
                                  .row_stride = stride,
                                  .ring = ring.As<float>(),
                                  .ring_tokens = kRingTokens,
                                  .window = kWindow,
                                  .spans = spans.data(),
                                  .num_spans = static_cast<int>(spans.size()),
                                  .num_rows = num_rows,
                                  .heads = kHeads,
                                  .kv_heads = kKvHeads,
                                  .head_dim = kHeadDim,
                                  .out = out.As<float>()},
                                 stream_);
      });
      AddTime(absl::StrCat("window-attention/", kind, "/", kStart, "/", num_rows), seconds, bytes,
              4.0 * num_rows * kWindow * kHeads * kHeadDim);
    };
    measure("prompt", {{0, kPromptRows, kStart, 0}}, 0);
    for (const int batch : {1, 8, kMaxBatch}) {
      std::vector<SequenceSpan> spans;
      for (int i = 0; i < batch; ++i) spans.push_back({i, 1, kStart + 7 * i, i});
      measure("generated", spans, static_cast<double>(batch) * kWindow * kTokenFloats * sizeof(float));
    }
  }

  // Rows of one sequence of `context` tokens: a single one over all of them, and several over 2,048 chosen at
  // random.
  void PagedAttention(int context) {
    const int max_blocks = context / kBlockTokens;
    const Buffer cache = Noise(static_cast<size_t>(context) * kTokenFloats);
    const Buffer table = Upload(random_.Permutation(max_blocks));
    const Buffer dense_row = Upload(std::vector<PagedRow>{{0, context}});
    const Buffer q = Noise(32 * kHeads * kHeadDim);
    const Buffer out = Noise(32 * kHeads * kHeadDim);
    const double dense = MedianSeconds([&] {
      backend_.DenseAttention({.q = q.As<float>(),
                               .q_stride = kHeads * kHeadDim,
                               .cache = cache.As<float>(),
                               .block_tables = table.As<int32_t>(),
                               .max_blocks = max_blocks,
                               .rows = dense_row.As<PagedRow>(),
                               .num_rows = 1,
                               .heads = kHeads,
                               .kv_heads = kKvHeads,
                               .head_dim = kHeadDim,
                               .out = out.As<float>()},
                              stream_);
    });
    AddTime(absl::StrCat("dense-attention/generated/", context, "/1"), dense, cache.bytes(),
            4.0 * context * kHeads * kHeadDim);
    for (const int rows : {1, 8, 32}) {
      std::vector<int32_t> slots;
      for (int row = 0; row < rows; ++row) {
        std::vector<int32_t> chosen = random_.Permutation(context);
        chosen.resize(kTopK);
        std::sort(chosen.begin(), chosen.end());
        slots.insert(slots.end(), chosen.begin(), chosen.end());
      }
      const Buffer device_slots = Upload(slots);
      const Buffer count = Upload(std::vector<int32_t>(rows, kTopK));
      const double sparse = MedianSeconds([&] {
        backend_.SparseAttention({.q = q.As<float>(),
                                  .q_stride = kHeads * kHeadDim,
                                  .cache = cache.As<float>(),
                                  .slots = device_slots.As<int32_t>(),
                                  .count = count.As<int32_t>(),
                                  .top_k = kTopK,
                                  .num_rows = rows,
                                  .heads = kHeads,
                                  .kv_heads = kKvHeads,
                                  .head_dim = kHeadDim,
                                  .out = out.As<float>()},
                                 stream_);
      });
      AddTime(absl::StrCat("sparse-attention/generated/", context, "/", rows), sparse,
              static_cast<double>(rows) * kTopK * kTokenFloats * sizeof(float),
              4.0 * rows * kTopK * kHeads * kHeadDim);
    }
  }

  void SiluGate(int rows) {
    const Buffer in = Noise(static_cast<size_t>(rows) * 2 * kFfn);
    const Buffer out = Noise(static_cast<size_t>(rows) * kFfn);
    const double seconds = MedianSeconds([&] {
      backend_.SiluGate({.gate_up = in.As<float>(), .num_rows = rows, .ffn = kFfn, .out = out.As<float>()},
                        stream_);
    });
    AddTime(absl::StrCat("silu-gate/", kFfn, "/0/", rows), seconds, in.bytes() + out.bytes(), 0);
  }

  Backend& backend_;
  Stream& stream_;
  ThreadPool& pool_;
  Report& report_;
  test::Random random_{1};
  Ceilings ceilings_;
  Buffer x_, y_;
};

void RunAll(int num_threads, Report& report) {
  absl::StatusOr<std::unique_ptr<Backend>> backend = kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
  YOIO_CHECK(backend.ok()) << backend.status().ToString();
  absl::StatusOr<std::unique_ptr<Stream>> stream = (*backend)->NewStream(num_threads);
  YOIO_CHECK(stream.ok()) << stream.status().ToString();
  openblas_set_num_threads(1);  // each thread of the pool calls it for columns of its own
  ThreadPool pool(num_threads);
  KernelsBench(**backend, **stream, pool, report).Run();
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures the heavy operations of a step on this machine");
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::string json;
  app.add_option("--threads", threads, "Threads of the stream")->check(CLI::PositiveNumber);
  app.add_option("--json", json, "Write the results to this file");
  CLI11_PARSE(app, argc, argv);
  yoio::bench::Report report(argc, argv);
  yoio::bench::RunAll(threads, report);
  return report.Write(json) ? 0 : 1;
}
