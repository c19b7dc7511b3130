// Whole steps of a model on this machine: decode at several contexts, and prefill, beside the machine's own
// ceilings.
//
//   step_bench --shape bench/shapes/clsa-500m [--threads N] [--json FILE]
//
// Weights are drawn from a seed. The cache is filled with random values instead of by a prefill: a step costs
// the same whatever the cache holds, as long as it is not all one page of zeros.
#include <cblas.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/check.h"
#include "bench/measure.h"
#include "bench/report.h"
#include "engine/checkpoint/config.h"
#include "engine/comm/communicator.h"
#include "engine/host_resources.h"
#include "engine/model/model.h"

namespace yoio::bench {
namespace {

constexpr int kMaxContext = 65536 + 64;
constexpr int kPrefillChunk = 512;

template <typename T>
T Must(absl::StatusOr<T> value) {
  YOIO_CHECK(value.ok()) << value.status().ToString();
  return *std::move(value);
}

// A model of one rank with a cache full of noise, and plans for one sequence in slot 0.
class StepRunner {
 public:
  StepRunner(const std::string& shape, int threads)
      : config_(Must(ReadModelConfig(shape, ""))),
        shard_(Must(Shard::Make(config_, 0, 1))),
        backend_(Must(kernels::MakeBackend(kernels::DeviceKind::kCpu, 0))),
        stream_(Must(backend_->NewStream(threads))),
        comm_(std::move(Must(MakeCommunicators(CommunicatorKind::kLocal, 1))[0])),
        weights_(Must(Weights::Dummy(config_, shard_, 1, *backend_, *stream_))) {
    const int blocks = kMaxContext / kernels::kBlockTokens;
    const CacheGeometry geometry{.num_blocks = blocks,
                                 .max_sequences = 1,
                                 .max_blocks_per_sequence = blocks,
                                 .ring_tokens = CacheGeometry::RingTokens(config_.plan)};
    cache_ = Must(KvCache::Create(config_, shard_, geometry, *backend_));
    FillCache(geometry);
    const ModelParts parts{.config = &config_,
                           .shard = shard_,
                           .weights = weights_.get(),
                           .cache = cache_.get(),
                           .backend = backend_.get(),
                           .comm = comm_.get(),
                           .stream = stream_.get()};
    model_ = std::make_unique<Model>(parts, StepLimits{kPrefillChunk, 1});
    YOIO_CHECK(model_->Allocate().ok());
  }

  int64_t weight_bytes() const { return Weights::Bytes(config_, shard_); }

  // One generated token at position `context` - 1.
  double DecodeSeconds(int context) {
    const StepPlan plan = MakePlan(context - 1, 1, /*prompt=*/false);
    return MedianSeconds([&] { Run(plan); });
  }

  // A chunk of prompt tokens in the middle of a long prompt: no logits, so only the self-decoder runs.
  double PrefillSeconds(int start) {
    const StepPlan plan = MakePlan(start, kPrefillChunk, /*prompt=*/true);
    return MedianSeconds([&] { Run(plan); });
  }

  // Matrix elements that every prompt token is multiplied with.
  int64_t SelfDecoderWeights() const {
    int64_t elements = weights_->memory.kv.rows * weights_->memory.kv.cols +
                       weights_->memory.index_k.rows * weights_->memory.index_k.cols;
    for (int i = 0; i < config_.num_self_decoder_layers; ++i) {
      const LayerWeights& layer = weights_->layers[i];
      for (const kernels::Matrix* w : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down})
        elements += w->rows * w->cols;
    }
    return elements;
  }

 private:
  void Run(const StepPlan& plan) {
    const absl::Status status = model_->Forward(plan, {}, [](int, int, const float*) {});
    YOIO_CHECK(status.ok()) << status.ToString();
  }

  static void FillWithNoise(float* data, int64_t count) {
    std::minstd_rand random(7);
    std::vector<float> noise(1 << 16);
    for (float& value : noise) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    for (int64_t i = 0; i < count; ++i) data[i] = noise[(i * 31 + i / 65536) % noise.size()];
  }

  void FillCache(const CacheGeometry& geometry) {
    const int64_t global = static_cast<int64_t>(geometry.num_blocks) * kernels::kBlockTokens;
    for (size_t i = 0; i < config_.plan.stores.size(); ++i) {
      const Store& store = config_.plan.stores[i];
      const int64_t tokens = store.window == 0 ? global : geometry.ring_tokens;
      FillWithNoise(cache_->store(static_cast<int>(i)), tokens * shard_.kv_heads * 2 * store.head_dim);
    }
    for (size_t i = 0; i < config_.plan.indexers.size(); ++i) {
      FillWithNoise(cache_->index_keys(static_cast<int>(i)), global * config_.plan.indexers[i].dim);
    }
  }

  StepPlan MakePlan(int start, int count, bool prompt) {
    StepPlan plan;
    const int blocks = (start + count + kernels::kBlockTokens - 1) / kernels::kBlockTokens;
    plan.admitted.push_back({.slot = 0, .sampling = {}, .stop_ids = {}, .prompt_ids = {}, .output_ids = {}});
    // Neighbours in the sequence are no neighbours in memory.
    for (int i = 0; i < blocks; ++i)
      plan.new_blocks.push_back((i * 7) % (kMaxContext / kernels::kBlockTokens));
    plan.sequences.push_back({0, 0, count, start, 0, blocks});
    for (int i = 0; i < count; ++i) {
      plan.token_ids.push_back(i % config_.vocab_size);
      plan.positions.push_back(start + i);
    }
    plan.num_prompt_tokens = prompt ? count : 0;
    if (!prompt) plan.output_tokens = {0};
    return plan;
  }

  const ModelConfig config_;
  const Shard shard_;
  const std::unique_ptr<kernels::Backend> backend_;
  const std::unique_ptr<kernels::Stream> stream_;
  const std::unique_ptr<Communicator> comm_;
  const std::unique_ptr<Weights> weights_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Model> model_;
};

// FLOP/s of the library alone on the self-decoder's four products, every thread with its share of the
// columns.
double LibraryRate(const ModelConfig& config, ThreadPool& pool) {
  const int hidden = config.hidden_size, ffn = config.intermediate_size, dim = config.head_dim;
  const int q = config.num_attention_heads * dim, kv = config.num_key_value_heads * dim;
  const std::vector<std::pair<int, int>> shapes = {
      {q + 2 * kv, hidden}, {hidden, q}, {2 * ffn, hidden}, {hidden, ffn}};
  openblas_set_num_threads(1);  // each thread of the pool calls it for columns of its own
  double flops = 0, seconds = 0;
  for (const auto& [n, k] : shapes) {
    std::vector<float> x(static_cast<size_t>(kPrefillChunk) * k, 0.5f), w(static_cast<size_t>(n) * k, 0.25f);
    std::vector<float> y(static_cast<size_t>(kPrefillChunk) * n);
    const int threads = pool.num_threads();
    flops += 2.0 * kPrefillChunk * n * k;
    seconds += MedianSeconds([&, n = n, k = k] {
      pool.RunOnAll([&](int thread) {
        const int begin = n * thread / threads, end = n * (thread + 1) / threads;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kPrefillChunk, end - begin, k, 1.0f, x.data(), k,
                    w.data() + static_cast<size_t>(begin) * k, k, 0.0f, y.data() + begin, n);
      });
    });
  }
  return flops / seconds;
}

void Measure(const std::string& shape, int threads, Report& report) {
  const std::string name = shape.substr(shape.find_last_of('/') + 1);
  double bandwidth, library;
  {
    ThreadPool pool(threads);
    bandwidth = ReadBandwidth(pool, size_t{1} << 30);
    library = LibraryRate(Must(ReadModelConfig(shape, "")), pool);
  }
  report.Add({.name = "ceiling/read", .value = bandwidth / 1e9, .unit = "GB/s"});
  report.Add({.name = "ceiling/sgemm/" + name, .value = library / 1e9, .unit = "GFLOP/s"});

  StepRunner runner(shape, threads);
  const double floor = static_cast<double>(runner.weight_bytes()) / bandwidth;
  for (const int context : {4096, 16384, 65536}) {
    report.Add({.name = "step/" + name + "/" + std::to_string(context) + "/1",
                .value = runner.DecodeSeconds(context) * 1e6,
                .unit = "us",
                .floor = floor * 1e6});
  }
  const double prefill_floor =
      kPrefillChunk * 2.0 * static_cast<double>(runner.SelfDecoderWeights()) / library;
  report.Add({.name = "prefill/" + name + "/8192/1",
              .value = kPrefillChunk / runner.PrefillSeconds(8192),
              .unit = "tokens/s",
              .floor = kPrefillChunk / prefill_floor});
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures whole steps on this machine");
  std::string shape = "bench/shapes/clsa-500m", json;
  int threads = yoio::AvailableThreads();
  app.add_option("--shape", shape, "Directory with a config.json");
  app.add_option("--threads", threads, "Threads");
  app.add_option("--json", json, "Write the results here too");
  CLI11_PARSE(app, argc, argv);
  yoio::bench::Report report(argc, argv);
  yoio::bench::Measure(shape, threads, report);
  return report.Write(json) ? 0 : 1;
}
