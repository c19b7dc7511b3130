// What a layer is made of: its projections and stores, the index, attention, the feed-forward layer.
#include <algorithm>

#include "base/check.h"
#include "base/status.h"
#include "engine/model/model.h"

namespace yoio {

using kernels::Activation;

// Projects queries, and for a layer with a store of its own keys and values too. A window store's ring is
// written by the layer's attention, which still needs what the ring held before.
void Model::WriteOwnStore(int layer) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  const Store& store = config_.plan.stores[config_.plan.layers[layer].store];
  const int64_t width = weights.qkv.rows;
  const bool own = store.source == Source::kOwn;
  MatMul(act_.h.As<Activation>(), weights.qkv, act_.qkv.As<Activation>(), rows_);
  if (weights.q_norm != nullptr || weights.k_norm != nullptr || store.rope) {
    backend_.HeadNormRope({.x = act_.qkv.As<Activation>(),
                           .row_stride = width,
                           .num_rows = rows_.count,
                           .q_heads = parts_.shard.heads,
                           .k_heads = own ? parts_.shard.kv_heads : 0,
                           .head_dim = store.head_dim,
                           .q_weight = weights.q_norm,
                           .k_weight = weights.k_norm,
                           .eps = config_.rms_norm_eps,
                           .cos = store.rope ? act_.rope_cos.As<float>() : nullptr,
                           .sin = store.rope ? act_.rope_sin.As<float>() : nullptr},
                          stream_);
  }
  if (!own || store.window > 0) return;
  const Activation* k = Offset(act_.qkv, int64_t{parts_.shard.heads} * store.head_dim);
  WriteKv(config_.plan.layers[layer].store, k, width, inputs_.global_slots());
}

// `k` lies in the projections, V behind it.
void Model::WriteKv(int store, const Activation* k, int64_t row_stride, const int32_t* slots) {
  const int head_dim = config_.plan.stores[store].head_dim;
  const int64_t width = int64_t{parts_.shard.kv_heads} * head_dim;
  backend_.WriteKv({.k = k,
                    .v = kernels::Advance(k, width, backend_.activation_type()),
                    .row_stride = row_stride,
                    .slots = slots,
                    .num_rows = rows_.count,
                    .kv_heads = parts_.shard.kv_heads,
                    .head_dim = head_dim,
                    .cache = parts_.cache->store(store)},
                   stream_);
}

// `h` holds m = norm(x) for all scheduled rows: K, V and index keys are written whatever rows their readers
// run on.
void Model::WriteMemoryStore(int store) {
  const MemoryWeights& weights = parts_.weights->memory;
  Activation* k = act_.qkv.As<Activation>();
  MatMul(act_.h.As<Activation>(), weights.kv, k, rows_);
  if (weights.k_norm != nullptr) {
    backend_.HeadNormRope({.x = k,
                           .row_stride = weights.kv.rows,
                           .num_rows = rows_.count,
                           .q_heads = 0,
                           .k_heads = parts_.shard.kv_heads,
                           .head_dim = config_.plan.stores[store].head_dim,
                           .q_weight = nullptr,
                           .k_weight = weights.k_norm,
                           .eps = config_.rms_norm_eps,
                           .cos = nullptr,
                           .sin = nullptr},
                          stream_);
  }
  WriteKv(store, k, weights.kv.rows, inputs_.global_slots());

  if (parts_.shard.rank != 0) return;
  for (int indexer = 0; indexer < static_cast<int>(config_.plan.indexers.size()); ++indexer) {
    if (config_.plan.indexers[indexer].store != store) continue;
    MatMul(act_.h.As<Activation>(), weights.index_k, act_.index_keys.As<Activation>(), rows_);
    backend_.WriteIndexKeys({.keys = act_.index_keys.As<Activation>(),
                             .slots = inputs_.global_slots(),
                             .num_rows = rows_.count,
                             .dim = config_.plan.indexers[indexer].dim,
                             .cache = parts_.cache->index_keys(indexer)},
                            stream_);
  }
}

// Rank 0 scores the cache, keeps the top-k exactly and translates positions to slots; then all ranks share
// the result.
absl::Status Model::SelectTokens(int number) {
  const int top_k = config_.plan.indexers[number].top_k;
  int32_t* count = act_.index_set.As<int32_t>();
  int32_t* slots = count + IndexSet::SlotsBegin(rows_.count);
  if (parts_.shard.rank == 0) {
    for (int row = 0; row < rows_.count; row += kIndexTile) {
      SelectTile(number, row, std::min(kIndexTile, rows_.count - row), count + row,
                 slots + static_cast<int64_t>(row) * top_k);
    }
  }
  const int64_t words = IndexSet::SlotsBegin(rows_.count) + static_cast<int64_t>(rows_.count) * top_k;
  return parts_.comm->Broadcast({reinterpret_cast<std::byte*>(count), words * sizeof(int32_t)}, /*root=*/0,
                                stream_);
}

void Model::SelectTile(int number, int first_row, int num_rows, int32_t* count, int32_t* slots) {
  const Indexer& indexer = config_.plan.indexers[number];
  const CacheGeometry& geometry = parts_.cache->geometry();
  const kernels::PagedRow* rows = inputs_.output_rows() + first_row;
  const int64_t score_stride = static_cast<int64_t>(geometry.max_blocks_per_sequence) * kernels::kBlockTokens;

  MatMul(Offset(act_.output_h, int64_t{first_row} * config_.hidden_size), parts_.weights->memory.index_q,
         act_.index_q.As<Activation>(), {num_rows, /*prompt_count=*/0, /*one_each=*/true});
  backend_.IndexScores({.q = act_.index_q.As<Activation>(),
                        .keys = parts_.cache->index_keys(number),
                        .block_tables = inputs_.block_tables(),
                        .max_blocks = geometry.max_blocks_per_sequence,
                        .rows = rows,
                        .num_rows = num_rows,
                        .dim = indexer.dim,
                        .scores = act_.index_scores.As<float>(),
                        .score_stride = score_stride},
                       stream_);
  backend_.TopK({.scores = act_.index_scores.As<float>(),
                 .score_stride = score_stride,
                 .block_tables = inputs_.block_tables(),
                 .max_blocks = geometry.max_blocks_per_sequence,
                 .rows = rows,
                 .num_rows = num_rows,
                 .top_k = indexer.top_k,
                 .positions = act_.index_positions.As<int32_t>() + int64_t{first_row} * indexer.top_k,
                 .slots = slots,
                 .count = count},
                stream_);
}

void Model::Attend(int number) {
  const Layer& layer = config_.plan.layers[number];
  const Store& store = config_.plan.stores[layer.store];
  const CacheGeometry& geometry = parts_.cache->geometry();
  const int64_t width = parts_.weights->layers[number].qkv.rows;
  if (store.window > 0) {
    AttendWindow(number);
  } else if (layer.indexer >= 0) {
    backend_.SparseAttention({.q = act_.qkv.As<Activation>(),
                              .q_stride = width,
                              .cache = parts_.cache->store(layer.store),
                              .slots = index_.slots,
                              .count = index_.count,
                              .top_k = index_.top_k,
                              .num_rows = rows_.count,
                              .heads = parts_.shard.heads,
                              .kv_heads = parts_.shard.kv_heads,
                              .head_dim = store.head_dim,
                              .out = act_.attended.As<Activation>()},
                             stream_);
  } else {
    backend_.DenseAttention({.q = act_.qkv.As<Activation>(),
                             .q_stride = width,
                             .cache = parts_.cache->store(layer.store),
                             .block_tables = inputs_.block_tables(),
                             .max_blocks = geometry.max_blocks_per_sequence,
                             .rows = half_ == Half::kTokens ? inputs_.token_rows() : inputs_.output_rows(),
                             .num_rows = rows_.count,
                             .heads = parts_.shard.heads,
                             .kv_heads = parts_.shard.kv_heads,
                             .head_dim = store.head_dim,
                             .out = act_.attended.As<Activation>()},
                            stream_);
  }
}

void Model::AttendWindow(int number) {
  const int index = config_.plan.layers[number].store;
  const Store& store = config_.plan.stores[index];
  YOIO_CHECK(store.source == Source::kOwn) << "a window store is read by the layer that writes it";
  const int64_t k_begin = int64_t{parts_.shard.heads} * store.head_dim;
  const int64_t v_begin = k_begin + int64_t{parts_.shard.kv_heads} * store.head_dim;
  backend_.WindowAttention({.q = act_.qkv.As<Activation>(),
                            .k = Offset(act_.qkv, k_begin),
                            .v = Offset(act_.qkv, v_begin),
                            .row_stride = parts_.weights->layers[number].qkv.rows,
                            .ring = parts_.cache->store(index),
                            .ring_slots = inputs_.ring_slots(),
                            .ring_tokens = parts_.cache->geometry().ring_tokens,
                            .window = store.window,
                            .spans = rows_.one_each ? nullptr : inputs_.spans().data(),
                            .num_spans = static_cast<int>(inputs_.spans().size()),
                            .rows = inputs_.token_rows(),
                            .num_rows = rows_.count,
                            .heads = parts_.shard.heads,
                            .kv_heads = parts_.shard.kv_heads,
                            .head_dim = store.head_dim,
                            .out = act_.attended.As<Activation>()},
                           stream_);
}

absl::Status Model::AddAttention(int layer) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  MatMul(act_.attended.As<Activation>(), weights.o, act_.delta.As<Activation>(), rows_);
  return AddDelta(weights.post_attention_norm);
}

absl::Status Model::AddFeedForward(int layer, const float* next_norm) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  backend_.GateUp({.x = act_.h.As<Activation>(),
                   .w = weights.gate_up,
                   .num_rows = rows_.count,
                   .num_prompt_rows = rows_.prompt_count,
                   .scratch = act_.gate_up.As<Activation>(),
                   .out = act_.ffn.As<Activation>()},
                  stream_);
  MatMul(act_.ffn.As<Activation>(), weights.down, act_.delta.As<Activation>(), rows_);
  return AddDelta(next_norm);
}

// x += the ranks' deltas, or with `starts` x = their sum; h = norm(x).
absl::Status Model::AddDelta(const float* norm, bool starts) {
  Activation* delta = act_.delta.As<Activation>();
  return parts_.comm->AllReduceResidualNorm(
      {.x = (half_ == Half::kTokens ? act_.x : act_.output_x).As<float>(),
       .delta = delta,
       .weight = norm,
       .eps = config_.rms_norm_eps,
       .num_rows = rows_.count,
       .hidden = config_.hidden_size,
       .out = act_.h.As<Activation>(),
       .starts = starts},
      delta, backend_, stream_);
}

// out = norm(x), the residual of whichever rows run.
void Model::Norm(const float* weight, Activation* out) {
  backend_.ResidualRmsNorm({.x = (half_ == Half::kTokens ? act_.x : act_.output_x).As<float>(),
                            .delta = nullptr,
                            .weight = weight,
                            .eps = config_.rms_norm_eps,
                            .num_rows = rows_.count,
                            .hidden = config_.hidden_size,
                            .out = out},
                           stream_);
}

void Model::MatMul(const Activation* x, const kernels::Matrix& w, Activation* y, const RowSet& rows) {
  backend_.MatMul({.x = x,
                   .x_stride = w.cols,
                   .w = w,
                   .num_rows = rows.count,
                   .num_prompt_rows = rows.prompt_count,
                   .y = y,
                   .y_type = backend_.activation_type(),
                   .y_stride = w.rows},
                  stream_);
}

Activation* Model::Offset(const kernels::Buffer& buffer, int64_t elements) const {
  return kernels::Advance(buffer.As<Activation>(), elements, backend_.activation_type());
}

}  // namespace yoio
