#include "bench/step_rank.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "engine/model/activations.h"

namespace yoio::bench {
namespace {

using kernels::kBlockTokens;

// Tokens that a row at the end of `context` tokens reads in `layer`.
int64_t TokensRead(const ModelPlan& plan, const Layer& layer, int context) {
  const int window = plan.stores[layer.store].window;
  if (window > 0) return std::min(window, context);
  if (layer.indexer >= 0) return std::min(plan.indexers[layer.indexer].top_k, context);
  return context;
}

double MatrixBytes(const kernels::Matrix& matrix) {
  return static_cast<double>(matrix.rows * matrix.cols) * static_cast<double>(SizeOf(matrix.dtype));
}

double LayerBytes(const LayerWeights& layer) {
  return MatrixBytes(layer.qkv) + MatrixBytes(layer.o) + MatrixBytes(layer.gate_up) + MatrixBytes(layer.down);
}

}  // namespace

int64_t StepRank::Bytes(const StepShape& shape, const Shard& shard, kernels::DType type) {
  const CacheGeometry& geometry = shape.geometry;
  return Weights::Bytes(shape.config, shard) +
         geometry.num_blocks * BytesPerBlock(shape.config, shard, type) +
         geometry.max_sequences * BytesPerRing(shape.config, shard, type) +
         Activations::Bytes(shape.config, shard, shape.limits,
                            geometry.max_blocks_per_sequence * kBlockTokens, type) +
         Sampler::Bytes(shard, shape.config.vocab_size, geometry.max_sequences, shape.limits.max_output_rows);
}

StepRank::StepRank(Lab& lab, Communicator& comm, const StepShape& shape)
    : lab_(lab),
      shape_(shape),
      shard_(Must(Shard::Make(shape.config, comm.rank(), comm.world(), shape.index_by_rows))),
      weights_(Must(Weights::Dummy(shape.config, shard_, /*seed=*/1, lab.backend(), lab.stream(), nullptr))),
      cache_(Must(KvCache::Create(shape.config, shard_, shape.geometry, lab.backend()))),
      samples_(lab.Upload(std::vector<int32_t>(shape.geometry.max_sequences, 1))),
      sampler_(Must(Sampler::Create({.backend = &lab.backend(),
                                     .stream = &lab.stream(),
                                     .comm = &comm,
                                     .shard = shard_,
                                     .vocab = shape.config.vocab_size,
                                     .max_sequences = shape.geometry.max_sequences,
                                     .max_output_rows = shape.limits.max_output_rows}))) {
  for (int i = 0; i < shape.limits.depth; ++i) sampling_.push_back(Must(sampler_->NewStep()));
  FillCache();
  if (shape.marked) {
    times_ = lab.Allocate(sizeof(StepMarks::Times));
    marks_ = std::make_unique<StepMarks>(lab.backend(), lab.stream(), times_.As<StepMarks::Times>(),
                                         /*phase=*/nullptr);
    comm.MeasureWaits(&times_.As<StepMarks::Times>()->comm);
  }
  model_ = std::make_unique<Model>(ModelParts{.config = &shape.config,
                                              .shard = shard_,
                                              .weights = weights_.get(),
                                              .cache = cache_.get(),
                                              .backend = &lab.backend(),
                                              .comm = &comm,
                                              .stream = &lab.stream(),
                                              .previous_samples = samples_.As<int32_t>(),
                                              .marks = marks_.get()},
                                   shape.limits);
  const absl::Status status = model_->Prepare();
  YOIO_CHECK(status.ok()) << status.ToString();
}

void StepRank::FillCache() {
  const kernels::DType type = lab_.backend().activation_type();
  for (size_t i = 0; i < shape_.config.plan.stores.size(); ++i)
    lab_.FillWithNoise(cache_->store(i), cache_->store_bytes(i), type, 1.0f);
  if (!shard_.indexes()) return;
  for (size_t i = 0; i < shape_.config.plan.indexers.size(); ++i)
    lab_.FillWithNoise(cache_->index_keys(i), cache_->index_key_bytes(i), type, 1.0f);
}

void StepRank::Run(const StepPlan& plan) {
  const absl::Status status = Queue(plan);
  YOIO_CHECK(status.ok()) << status.ToString();
}

absl::Status StepRank::Queue(const StepPlan& plan) {
  Sampler::Step& sampling = sampling_[next_++ % sampling_.size()];
  int32_t* const ids = samples_.As<int32_t>();
  if (marks_ != nullptr) marks_->Begin();
  YOIO_RETURN_IF_ERROR(sampler_->Begin(plan, sampling));
  YOIO_RETURN_IF_ERROR(model_->Forward(plan, [&](int first_row, int num_rows, const float* logits) {
    return sampler_->Read(first_row, num_rows, logits, ids);
  }));
  YOIO_RETURN_IF_ERROR(sampler_->End(sampling, ids));
  if (marks_ != nullptr) {
    marks_->End(plan.output_tokens.empty() ? StepPhase::kSelfDecoder : StepPhase::kSampling);
  }
  return absl::OkStatus();
}

StepTimes StepRank::Times() {
  YOIO_CHECK(marks_ != nullptr) << "this rank has no marks";
  StepMarks::Times times;
  lab_.backend().CopyToHost(&times, times_.data(), sizeof(times), lab_.stream());
  lab_.Synchronize();
  return StepMarks::Read(times);
}

double StepRank::DecodeBytes(int context, int batch) const {
  const ModelPlan& plan = shape_.config.plan;
  double sequence = 0;  // elements
  for (const Layer& layer : plan.layers) {
    const double width = 2.0 * shard_.kv_heads * plan.stores[layer.store].head_dim;
    sequence += static_cast<double>(TokensRead(plan, layer, context)) * width;
  }
  double index_keys = 0;
  for (const Indexer& indexer : plan.indexers) index_keys += static_cast<double>(context) * indexer.dim;
  const int indexed = shard_.indexes() ? (batch + shard_.index_ranks - 1) / shard_.index_ranks : 0;
  double weights = MatrixBytes(weights_->lm_head) + MatrixBytes(weights_->memory.kv) +
                   MatrixBytes(weights_->memory.index_q) + MatrixBytes(weights_->memory.index_k);
  for (const LayerWeights& layer : weights_->layers) weights += LayerBytes(layer);
  return weights + static_cast<double>(lab_.activation_bytes()) * (batch * sequence + indexed * index_keys);
}

double StepRank::PrefillFlops(int begin, int end) const {
  const ModelPlan& plan = shape_.config.plan;
  double bytes = MatrixBytes(weights_->memory.kv) + MatrixBytes(weights_->memory.index_k);
  double attended = 0;  // tokens, over all layers and rows
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    if (plan.layers[i].rows != Rows::kAll) continue;
    bytes += LayerBytes(weights_->layers[i]);
    for (int position = begin; position < end; ++position)
      attended += static_cast<double>(TokensRead(plan, plan.layers[i], position + 1));
  }
  return static_cast<double>(end - begin) * bytes +  // two FLOPs for each matrix element of two bytes
         4.0 * attended * shard_.heads * shape_.config.head_dim;
}

double StepRank::KvBytesPerToken() const {
  return KvBytes(/*in_window=*/false) / (static_cast<double>(shape_.geometry.num_blocks) * kBlockTokens);
}

double StepRank::KvBytesPerRing() const {
  return KvBytes(/*in_window=*/true) / shape_.geometry.max_sequences;
}

double StepRank::KvBytes(bool in_window) const {
  double bytes = 0;
  for (size_t i = 0; i < shape_.config.plan.stores.size(); ++i) {
    const bool has_window = shape_.config.plan.stores[i].window > 0;
    if (has_window == in_window) bytes += static_cast<double>(cache_->store_bytes(i));
  }
  return bytes;
}

}  // namespace yoio::bench
