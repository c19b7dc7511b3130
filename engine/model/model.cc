#include "engine/model/model.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/status.h"

namespace yoio {

Model::Model(const ModelParts& parts, const StepLimits& limits)
    : parts_(parts), config_(*parts.config), limits_(limits), inputs_(parts.cache->geometry(), limits) {
  if (parts.shard.rank == 0 && parts.shard.world > 1) {
    host_logits_.resize(static_cast<size_t>(kLogitsTile) * config_.vocab_size);
  }
}

absl::Status Model::Allocate() {
  const CacheGeometry& geometry = parts_.cache->geometry();
  YOIO_RETURN_IF_ERROR(inputs_.Allocate(*parts_.backend));
  return act_.Allocate(config_, parts_.shard, limits_,
                       geometry.max_blocks_per_sequence * kernels::kBlockTokens, *parts_.backend);
}

absl::Status Model::Forward(const StepPlan& plan, const std::vector<int32_t>& previous_samples,
                            LogitsSink sink) {
  inputs_.Load(plan, previous_samples, *parts_.backend, *parts_.stream);
  parts_.cache->Copy(plan, inputs_.copy_pairs(), *parts_.backend, *parts_.stream);
  rows_ = {Rows::kAll, inputs_.num_tokens, inputs_.num_prompt_tokens};

  YOIO_RETURN_IF_ERROR(Embed());
  for (int i = 0; i < static_cast<int>(config_.plan.layers.size()); ++i) {
    const Layer& layer = config_.plan.layers[i];
    if (layer.rows != rows_.kind) {
      if (inputs_.num_output_rows == 0) break;  // the prefill's early exit: nobody needs these rows' logits
      NarrowToOutputRows(i);
    }
    WriteOwnStore(i);
    if (FirstToName(i)) YOIO_RETURN_IF_ERROR(SelectTokens(layer.indexer));
    Attend(i);
    YOIO_RETURN_IF_ERROR(AddAttention(i));
    YOIO_RETURN_IF_ERROR(AddFeedForward(i, NormAfter(i)));
    for (int store = 0; store < static_cast<int>(config_.plan.stores.size()); ++store) {
      const Store& written = config_.plan.stores[store];
      if (written.source == Source::kMemory && written.layer == i) WriteMemoryStore(store);
    }
  }
  if (inputs_.num_output_rows > 0) YOIO_RETURN_IF_ERROR(Logits(sink));
  return parts_.backend->Synchronize(*parts_.stream);
}

absl::Status Model::Embed() {
  parts_.backend->Embed({.ids = inputs_.token_ids(),
                         .table = parts_.weights->embedding,
                         .vocab_begin = parts_.shard.vocab_begin,
                         .num_tokens = rows_.count,
                         .out = act_.x.As<float>()},
                        *parts_.stream);
  const size_t size = static_cast<size_t>(rows_.count) * config_.hidden_size;
  YOIO_RETURN_IF_ERROR(parts_.comm->AllReduce({act_.x.As<float>(), size}, *parts_.stream));
  parts_.backend->ResidualRmsNorm({.x = act_.x.As<float>(),
                                   .delta = nullptr,
                                   .weight = parts_.weights->layers[0].input_norm,
                                   .eps = config_.rms_norm_eps,
                                   .num_rows = rows_.count,
                                   .hidden = config_.hidden_size,
                                   .out = act_.h.As<float>()},
                                  *parts_.stream);
  parts_.backend->RopeTable({.positions = inputs_.positions(),
                             .num_tokens = rows_.count,
                             .head_dim = config_.head_dim,
                             .theta = config_.rope_theta,
                             .cos = act_.rope_cos.As<float>(),
                             .sin = act_.rope_sin.As<float>()},
                            *parts_.stream);
  return absl::OkStatus();
}

// From `layer` on only output rows run, all of them on the skinny product: most often each prompt has one.
// `h` still holds m, which the indexer's queries come from.
void Model::NarrowToOutputRows(int layer) {
  const int hidden = config_.hidden_size, num_rows = inputs_.num_output_rows;
  const auto gather = [&](const kernels::Buffer& from, const kernels::Buffer& to) {
    parts_.backend->GatherRows({from.As<float>(), inputs_.output_tokens(), num_rows, hidden, to.As<float>()},
                               *parts_.stream);
  };
  gather(act_.h, act_.memory);
  gather(act_.x, act_.delta);
  std::swap(act_.x, act_.delta);
  rows_ = {Rows::kOutput, num_rows, /*prompt_count=*/0};
  parts_.backend->ResidualRmsNorm({.x = act_.x.As<float>(),
                                   .delta = nullptr,
                                   .weight = parts_.weights->layers[layer].input_norm,
                                   .eps = config_.rms_norm_eps,
                                   .num_rows = num_rows,
                                   .hidden = hidden,
                                   .out = act_.h.As<float>()},
                                  *parts_.stream);
}

// Projects queries, and for a layer with a store of its own keys and values too. A window store's ring is
// written after the layer's attention, which still needs what the ring held before.
void Model::WriteOwnStore(int layer) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  const Store& store = config_.plan.stores[config_.plan.layers[layer].store];
  const int64_t width = weights.qkv.rows;
  float* q = act_.qkv.As<float>();
  MatMul(act_.h.As<float>(), weights.qkv, q, rows_);

  const auto norm_rope = [&](float* x, int heads, const float* weight) {
    if (weight == nullptr && !store.rope) return;
    parts_.backend->HeadNormRope({.x = x,
                                  .row_stride = width,
                                  .num_rows = rows_.count,
                                  .num_heads = heads,
                                  .head_dim = store.head_dim,
                                  .weight = weight,
                                  .eps = config_.rms_norm_eps,
                                  .cos = store.rope ? act_.rope_cos.As<float>() : nullptr,
                                  .sin = store.rope ? act_.rope_sin.As<float>() : nullptr},
                                 *parts_.stream);
  };
  norm_rope(q, parts_.shard.heads, weights.q_norm);
  if (store.source != Source::kOwn) return;
  float* k = q + static_cast<int64_t>(parts_.shard.heads) * store.head_dim;
  norm_rope(k, parts_.shard.kv_heads, weights.k_norm);
  if (store.window == 0) WriteKv(config_.plan.layers[layer].store, k, width, inputs_.global_slots());
}

void Model::WriteKv(int store, const float* k, int64_t row_stride, const int32_t* slots) {
  const int head_dim = config_.plan.stores[store].head_dim;
  parts_.backend->WriteKv({.k = k,
                           .v = k + static_cast<int64_t>(parts_.shard.kv_heads) * head_dim,
                           .row_stride = row_stride,
                           .slots = slots,
                           .num_rows = rows_.count,
                           .kv_heads = parts_.shard.kv_heads,
                           .head_dim = head_dim,
                           .cache = parts_.cache->store(store)},
                          *parts_.stream);
}

// `h` holds m = norm(x) for all scheduled rows: K, V and index keys are written whatever rows their readers
// run on.
void Model::WriteMemoryStore(int store) {
  const MemoryWeights& weights = parts_.weights->memory;
  const int head_dim = config_.plan.stores[store].head_dim;
  float* k = act_.qkv.As<float>();
  MatMul(act_.h.As<float>(), weights.kv, k, rows_);
  if (weights.k_norm != nullptr) {
    parts_.backend->HeadNormRope({.x = k,
                                  .row_stride = weights.kv.rows,
                                  .num_rows = rows_.count,
                                  .num_heads = parts_.shard.kv_heads,
                                  .head_dim = head_dim,
                                  .weight = weights.k_norm,
                                  .eps = config_.rms_norm_eps,
                                  .cos = nullptr,
                                  .sin = nullptr},
                                 *parts_.stream);
  }
  WriteKv(store, k, weights.kv.rows, inputs_.global_slots());

  if (parts_.shard.rank != 0) return;
  for (int indexer = 0; indexer < static_cast<int>(config_.plan.indexers.size()); ++indexer) {
    if (config_.plan.indexers[indexer].store != store) continue;
    MatMul(act_.h.As<float>(), weights.index_k, act_.index_keys.As<float>(), rows_);
    parts_.backend->WriteIndexKeys({.keys = act_.index_keys.As<float>(),
                                    .slots = inputs_.global_slots(),
                                    .num_rows = rows_.count,
                                    .dim = config_.plan.indexers[indexer].dim,
                                    .cache = parts_.cache->index_keys(indexer)},
                                   *parts_.stream);
  }
}

// Rank 0 scores the cache, keeps the top-k exactly and translates positions to slots; then all ranks share
// the result.
absl::Status Model::SelectTokens(int number) {
  const Indexer& indexer = config_.plan.indexers[number];
  int32_t* count = act_.index_set.As<int32_t>();
  int32_t* slots = count + rows_.count;
  if (parts_.shard.rank == 0) {
    for (int row = 0; row < rows_.count; row += kIndexTile) {
      SelectTile(number, row, std::min(kIndexTile, rows_.count - row), count + row,
                 slots + static_cast<int64_t>(row) * indexer.top_k);
    }
  }
  index_ = {slots, count, rows_.count, indexer.top_k};
  const size_t words = static_cast<size_t>(rows_.count) * (indexer.top_k + 1);
  return parts_.comm->Broadcast({reinterpret_cast<std::byte*>(count), words * sizeof(int32_t)}, /*root=*/0,
                                *parts_.stream);
}

void Model::SelectTile(int number, int first_row, int num_rows, int32_t* count, int32_t* slots) {
  const Indexer& indexer = config_.plan.indexers[number];
  const CacheGeometry& geometry = parts_.cache->geometry();
  const kernels::PagedRow* rows = inputs_.output_rows() + first_row;
  const int64_t score_stride = static_cast<int64_t>(geometry.max_blocks_per_sequence) * kernels::kBlockTokens;
  int32_t* positions = act_.index_positions.As<int32_t>() + static_cast<int64_t>(first_row) * indexer.top_k;

  MatMul(act_.memory.As<float>() + static_cast<int64_t>(first_row) * config_.hidden_size,
         parts_.weights->memory.index_q, act_.index_q.As<float>(),
         {rows_.kind, num_rows, rows_.prompt_count});
  parts_.backend->IndexScores({.q = act_.index_q.As<float>(),
                               .keys = parts_.cache->index_keys(number),
                               .block_tables = inputs_.block_tables(),
                               .max_blocks = geometry.max_blocks_per_sequence,
                               .rows = rows,
                               .num_rows = num_rows,
                               .dim = indexer.dim,
                               .scores = act_.index_scores.As<float>(),
                               .score_stride = score_stride},
                              *parts_.stream);
  parts_.backend->TopK({.scores = act_.index_scores.As<float>(),
                        .score_stride = score_stride,
                        .rows = rows,
                        .num_rows = num_rows,
                        .top_k = indexer.top_k,
                        .positions = positions,
                        .count = count},
                       *parts_.stream);
  parts_.backend->TranslateIndex({.positions = positions,
                                  .count = count,
                                  .block_tables = inputs_.block_tables(),
                                  .max_blocks = geometry.max_blocks_per_sequence,
                                  .rows = rows,
                                  .num_rows = num_rows,
                                  .top_k = indexer.top_k,
                                  .slots = slots},
                                 *parts_.stream);
}

void Model::Attend(int number) {
  const Layer& layer = config_.plan.layers[number];
  const Store& store = config_.plan.stores[layer.store];
  const CacheGeometry& geometry = parts_.cache->geometry();
  const int64_t width = parts_.weights->layers[number].qkv.rows;
  const float* q = act_.qkv.As<float>();
  float* cache = parts_.cache->store(layer.store);
  if (store.window > 0) {
    YOIO_CHECK(store.source == Source::kOwn) << "a window store is read by the layer that writes it";
    const float* k = q + static_cast<int64_t>(parts_.shard.heads) * store.head_dim;
    parts_.backend->WindowAttention({.q = q,
                                     .k = k,
                                     .v = k + static_cast<int64_t>(parts_.shard.kv_heads) * store.head_dim,
                                     .row_stride = width,
                                     .ring = cache,
                                     .ring_tokens = geometry.ring_tokens,
                                     .window = store.window,
                                     .spans = inputs_.spans().data(),
                                     .num_spans = static_cast<int>(inputs_.spans().size()),
                                     .num_rows = rows_.count,
                                     .heads = parts_.shard.heads,
                                     .kv_heads = parts_.shard.kv_heads,
                                     .head_dim = store.head_dim,
                                     .out = act_.attended.As<float>()},
                                    *parts_.stream);
    WriteKv(layer.store, k, width, inputs_.ring_slots());
  } else if (layer.indexer >= 0) {
    parts_.backend->SparseAttention({.q = q,
                                     .q_stride = width,
                                     .cache = cache,
                                     .slots = index_.slots,
                                     .count = index_.count,
                                     .top_k = index_.top_k,
                                     .num_rows = rows_.count,
                                     .heads = parts_.shard.heads,
                                     .kv_heads = parts_.shard.kv_heads,
                                     .head_dim = store.head_dim,
                                     .out = act_.attended.As<float>()},
                                    *parts_.stream);
  } else {
    parts_.backend->DenseAttention(
        {.q = q,
         .q_stride = width,
         .cache = cache,
         .block_tables = inputs_.block_tables(),
         .max_blocks = geometry.max_blocks_per_sequence,
         .rows = rows_.kind == Rows::kAll ? inputs_.token_rows() : inputs_.output_rows(),
         .num_rows = rows_.count,
         .heads = parts_.shard.heads,
         .kv_heads = parts_.shard.kv_heads,
         .head_dim = store.head_dim,
         .out = act_.attended.As<float>()},
        *parts_.stream);
  }
}

absl::Status Model::AddAttention(int layer) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  MatMul(act_.attended.As<float>(), weights.o, act_.delta.As<float>(), rows_);
  return AddDelta(weights.post_attention_norm);
}

absl::Status Model::AddFeedForward(int layer, const float* next_norm) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  MatMul(act_.h.As<float>(), weights.gate_up, act_.gate_up.As<float>(), rows_);
  parts_.backend->SiluGate({act_.gate_up.As<float>(), rows_.count, parts_.shard.ffn, act_.ffn.As<float>()},
                           *parts_.stream);
  MatMul(act_.ffn.As<float>(), weights.down, act_.delta.As<float>(), rows_);
  return AddDelta(next_norm);
}

// x += the ranks' deltas; h = norm(x).
absl::Status Model::AddDelta(const float* norm) {
  float* delta = act_.delta.As<float>();
  return parts_.comm->AllReduceResidualNorm({.x = act_.x.As<float>(),
                                             .delta = delta,
                                             .weight = norm,
                                             .eps = config_.rms_norm_eps,
                                             .num_rows = rows_.count,
                                             .hidden = config_.hidden_size,
                                             .out = act_.h.As<float>()},
                                            delta, *parts_.backend, *parts_.stream);
}

// The norm that whatever follows `layer` reads the residual through.
const float* Model::NormAfter(int layer) const {
  for (const Store& store : config_.plan.stores) {
    if (store.source == Source::kMemory && store.layer == layer) return parts_.weights->memory.norm;
  }
  if (layer + 1 < static_cast<int>(config_.plan.layers.size()))
    return parts_.weights->layers[layer + 1].input_norm;
  return parts_.weights->final_norm;
}

absl::Status Model::Logits(LogitsSink sink) {
  const Shard& shard = parts_.shard;
  for (int first = 0; first < rows_.count; first += kLogitsTile) {
    const int count = std::min(kLogitsTile, rows_.count - first);
    float* logits = act_.logits.As<float>();
    // The last rank's shard may be narrower than its share of the gathered row.
    parts_.backend->MatMul({.x = act_.h.As<float>() + static_cast<int64_t>(first) * config_.hidden_size,
                            .x_stride = config_.hidden_size,
                            .w = parts_.weights->lm_head,
                            .num_rows = count,
                            .num_prompt_rows = rows_.prompt_count,
                            .y = logits,
                            .y_stride = shard.vocab_stride},
                           *parts_.stream);
    if (shard.world == 1) {
      sink(first, count, logits);
      continue;
    }
    const size_t part = static_cast<size_t>(count) * shard.vocab_stride;
    float* all = act_.all_logits.As<float>();
    YOIO_RETURN_IF_ERROR(parts_.comm->AllGather(std::as_bytes(std::span(logits, part)),
                                                std::as_writable_bytes(std::span(all, part * shard.world)),
                                                *parts_.stream));
    if (shard.rank == 0) sink(first, count, JoinShards(all, count));
  }
  return absl::OkStatus();
}

// [world, rows, vocab stride] -> [rows, vocab], in vocabulary order.
const float* Model::JoinShards(const float* all, int num_rows) {
  const Shard& shard = parts_.shard;
  for (int row = 0; row < num_rows; ++row) {
    float* out = host_logits_.data() + static_cast<int64_t>(row) * config_.vocab_size;
    for (int rank = 0; rank < shard.world; ++rank) {
      const int begin = std::min(rank * shard.vocab_stride, config_.vocab_size);
      const int size = std::min(shard.vocab_stride, config_.vocab_size - begin);
      const float* part = all + (static_cast<int64_t>(rank) * num_rows + row) * shard.vocab_stride;
      std::memcpy(out + begin, part, size * sizeof(float));
    }
  }
  return host_logits_.data();
}

void Model::MatMul(const float* x, const kernels::Matrix& w, float* y, const RowSet& rows) {
  parts_.backend->MatMul({.x = x,
                          .x_stride = w.cols,
                          .w = w,
                          .num_rows = rows.count,
                          .num_prompt_rows = rows.prompt_count,
                          .y = y,
                          .y_stride = w.rows},
                         *parts_.stream);
}

bool Model::FirstToName(int layer) const {
  const auto& layers = config_.plan.layers;
  if (layers[layer].indexer < 0) return false;
  return std::none_of(layers.begin(), layers.begin() + layer,
                      [&](const Layer& earlier) { return earlier.indexer == layers[layer].indexer; });
}

}  // namespace yoio
