#include "bench/step_runner.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "bench/measure.h"
#include "engine/model/activations.h"

namespace yoio::bench {
namespace {

using kernels::kBlockTokens;

constexpr double kSampleSeconds = 0.2;  // of steps in one sample, at most kDepth of them
constexpr int kSamples = 5;

int BlocksFor(int tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

// Tokens that a row at the end of `context` tokens reads in `layer`.
int64_t TokensRead(const ModelPlan& plan, const Layer& layer, int context) {
  const int window = plan.stores[layer.store].window;
  if (window > 0) return std::min(window, context);
  if (layer.indexer >= 0) return std::min(plan.indexers[layer.indexer].top_k, context);
  return context;
}

kernels::DrawRow Greedy(int logits_row) {
  kernels::DrawRow row{};
  row.logits_row = logits_row;
  row.top_p = 1.0f;
  return row;
}

double MatrixBytes(const kernels::Matrix& matrix) {
  return static_cast<double>(matrix.rows * matrix.cols) * static_cast<double>(SizeOf(matrix.dtype));
}

double LayerBytes(const LayerWeights& layer) {
  return MatrixBytes(layer.qkv) + MatrixBytes(layer.o) + MatrixBytes(layer.gate_up) + MatrixBytes(layer.down);
}

}  // namespace

Scale Scale::Of(const Lab& lab) {
  if (lab.on_gpu()) return {{4096, 131072}, {1, 8, 32}, 8192, 0, 131072};
  return {{4096, 16384, 65536}, {1}, 512, 8192, 8192 + 512};
}

StepRunner::StepRunner(Lab& lab, const ModelConfig& config, const Scale& scale)
    : lab_(lab),
      config_(config),
      shard_(Must(Shard::Make(config, 0, 1))),
      limits_{std::max(scale.chunk, scale.batches.back()), scale.batches.back(), kDepth},
      geometry_(Geometry(config, scale)) {}

int64_t StepRunner::Bytes() const {
  const kernels::DType type = lab_.backend().activation_type();
  return Weights::Bytes(config_, shard_) + geometry_.num_blocks * BytesPerBlock(config_, shard_, type) +
         geometry_.max_sequences * BytesPerRing(config_, shard_, type) +
         Activations::Bytes(config_, shard_, limits_, geometry_.max_blocks_per_sequence * kBlockTokens, type);
}

void StepRunner::Prepare() {
  kernels::Backend* const backend = &lab_.backend();
  comm_ = std::move(Must(MakeCommunicators({}, {&backend, 1}))[0]);
  weights_ = Must(Weights::Dummy(config_, shard_, /*seed=*/1, lab_.backend(), lab_.stream(), nullptr));
  cache_ = Must(KvCache::Create(config_, shard_, geometry_, lab_.backend()));
  FillCache();
  samples_ = lab_.Upload(std::vector<int32_t>(geometry_.max_sequences, 1));
  const ModelParts parts{.config = &config_,
                         .shard = shard_,
                         .weights = weights_.get(),
                         .cache = cache_.get(),
                         .backend = &lab_.backend(),
                         .comm = comm_.get(),
                         .stream = &lab_.stream(),
                         .previous_samples = samples_.As<int32_t>()};
  model_ = std::make_unique<Model>(parts, limits_);
  const absl::Status status = model_->Prepare();
  YOIO_CHECK(status.ok()) << status.ToString();
}

double StepRunner::DecodeSeconds(int context, int batch) {
  StartDecode(context, batch);
  const double guess = SecondsPerStep(2);
  const int steps = std::clamp(static_cast<int>(kSampleSeconds / guess), 1, kDepth);
  std::vector<double> seconds;
  for (int i = 0; i < kSamples; ++i) seconds.push_back(SecondsPerStep(steps));
  return Median(std::move(seconds));
}

void StepRunner::StartDecode(int context, int batch) {
  std::vector<kernels::DrawRow> rows;
  for (int i = 0; i < batch; ++i) rows.push_back(Greedy(i));
  draws_ = lab_.Upload(rows);
  Run(DecodePlan(context, batch, /*first=*/true));
  decode_ = DecodePlan(context, batch, /*first=*/false);
  lab_.Synchronize();
}

double StepRunner::SecondsPerStep(int steps) {
  const TimePoint start = Clock::now();
  for (int i = 0; i < steps; ++i) Run(decode_);
  lab_.Synchronize();
  return ToSeconds(Clock::now() - start) / steps;
}

double StepRunner::PrefillSeconds(int begin, int end, int chunk) {
  std::vector<StepPlan> plans;
  for (int start = begin; start < end; start += chunk)
    plans.push_back(PromptPlan(start, std::min(chunk, end - start), start == begin, start + chunk >= end));
  draws_ = lab_.Upload(std::vector<kernels::DrawRow>{Greedy(0)});
  const auto prefill = [&] {
    int queued = 0;
    for (const StepPlan& plan : plans) {
      Run(plan);
      if (++queued % kDepth == 0) lab_.Synchronize();
    }
    lab_.Synchronize();
  };
  prefill();
  std::vector<double> seconds;
  for (int i = 0; i < 3; ++i) {
    const TimePoint start = Clock::now();
    prefill();
    seconds.push_back(ToSeconds(Clock::now() - start));
  }
  return Median(std::move(seconds));
}

double StepRunner::DecodeBytes(int context, int batch) const {
  const ModelPlan& plan = config_.plan;
  const double element = static_cast<double>(lab_.activation_bytes());
  double sequence = 0;
  for (const Layer& layer : plan.layers) {
    const Store& store = plan.stores[layer.store];
    sequence += static_cast<double>(TokensRead(plan, layer, context)) * 2 * store.kv_heads * store.head_dim;
  }
  for (const Indexer& indexer : plan.indexers) sequence += static_cast<double>(context) * indexer.dim;
  double weights = MatrixBytes(weights_->lm_head) + MatrixBytes(weights_->memory.kv) +
                   MatrixBytes(weights_->memory.index_q) + MatrixBytes(weights_->memory.index_k);
  for (const LayerWeights& layer : weights_->layers) weights += LayerBytes(layer);
  return weights + batch * element * sequence;
}

double StepRunner::PrefillFlops(int begin, int end) const {
  double bytes = MatrixBytes(weights_->memory.kv) + MatrixBytes(weights_->memory.index_k);
  double attended = 0;  // tokens, over all layers and rows
  for (size_t i = 0; i < config_.plan.layers.size(); ++i) {
    if (config_.plan.layers[i].rows != Rows::kAll) continue;
    bytes += LayerBytes(weights_->layers[i]);
    for (int position = begin; position < end; ++position)
      attended += static_cast<double>(TokensRead(config_.plan, config_.plan.layers[i], position + 1));
  }
  return static_cast<double>(end - begin) * bytes +  // two FLOPs for each matrix element of two bytes
         4.0 * attended * config_.num_attention_heads * config_.head_dim;
}

CacheGeometry StepRunner::Geometry(const ModelConfig& config, const Scale& scale) {
  const int tokens =
      std::max(*std::max_element(scale.contexts.begin(), scale.contexts.end()), scale.prompt_end);
  return {.num_blocks = BlocksFor(tokens) * scale.batches.back(),
          .max_sequences = scale.batches.back(),
          .max_blocks_per_sequence = BlocksFor(tokens),
          .ring_tokens = CacheGeometry::RingTokens(config.plan)};
}

void StepRunner::FillCache() {
  const kernels::DType type = lab_.backend().activation_type();
  for (size_t i = 0; i < config_.plan.stores.size(); ++i)
    lab_.FillWithNoise(cache_->store(i), cache_->store_bytes(i), type, 1.0f);
  for (size_t i = 0; i < config_.plan.indexers.size(); ++i)
    lab_.FillWithNoise(cache_->index_keys(i), cache_->index_key_bytes(i), type, 1.0f);
}

// Queues a step; each of its output rows draws the token that the next step may name.
void StepRunner::Run(const StepPlan& plan) {
  const absl::Status status = model_->Forward(plan, [&](int first_row, int num_rows, const float* logits) {
    lab_.backend().Draw({.logits = logits,
                         .logits_stride = config_.vocab_size,
                         .vocab = config_.vocab_size,
                         .rows = draws_.As<kernels::DrawRow>() + first_row,
                         .num_rows = num_rows,
                         .ids = samples_.As<int32_t>() + first_row},
                        lab_.stream());
    return absl::OkStatus();
  });
  YOIO_CHECK(status.ok()) << status.ToString();
}

// Sequences get their slots and blocks in the first step of a measurement, not in the ones that are timed.
void StepRunner::Admit(StepPlan& plan, int slot, int tokens) {
  plan.admitted.push_back({.slot = slot, .sampling = {}, .stop_ids = {}, .prompt_ids = {}, .output_ids = {}});
  plan.sequences.back().new_block_begin = static_cast<int32_t>(plan.new_blocks.size());
  plan.sequences.back().new_block_count = BlocksFor(tokens);
  // Neighbours in a sequence are no neighbours in memory.
  for (int i = 0; i < BlocksFor(tokens); ++i) plan.new_blocks.push_back(blocks_.at(next_block_++));
}

void StepRunner::ShuffleBlocks() {
  blocks_ = lab_.random().Permutation(geometry_.num_blocks);
  next_block_ = 0;
}

StepPlan StepRunner::DecodePlan(int context, int batch, bool first) {
  StepPlan plan;
  if (first) ShuffleBlocks();
  for (int i = 0; i < batch; ++i) {
    plan.sequences.push_back({i, i, 1, context - 1, 0, 0});
    if (first) Admit(plan, i, context);
    plan.token_ids.push_back(-1 - i);
    plan.positions.push_back(context - 1);
    plan.output_tokens.push_back(i);
  }
  return plan;
}

StepPlan StepRunner::PromptPlan(int start, int count, bool first, bool last) {
  StepPlan plan;
  if (first) ShuffleBlocks();
  plan.sequences.push_back({0, 0, count, start, 0, 0});
  if (first) Admit(plan, 0, geometry_.max_blocks_per_sequence * kBlockTokens);
  for (int i = 0; i < count; ++i) {
    plan.token_ids.push_back((start + i) * 31 % config_.vocab_size);
    plan.positions.push_back(start + i);
  }
  plan.num_prompt_tokens = count;
  if (last) plan.output_tokens = {count - 1};
  return plan;
}

}  // namespace yoio::bench
