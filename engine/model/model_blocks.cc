// What a layer is made of: its projections and stores, the index, attention, the feed-forward layer.
#include <algorithm>
#include <cstddef>
#include <span>

#include "base/check.h"
#include "base/status.h"
#include "engine/model/model.h"

namespace yoio {

using kernels::Activation;

// The projections of a layer depend on no index, nor the index on them. Ranks that do not index would wait
// for the one that does.
absl::Status Model::ProjectBesideIndex(int layer) {
  backend_.WaitFor(*side_, stream_);
  for (const Tile& tile : tiles()) Project(layer, tile, *side_);
  YOIO_RETURN_IF_ERROR(SelectTokens(config_.plan.layers[layer].indexer));
  backend_.WaitFor(stream_, *side_);
  return absl::OkStatus();
}

// Projects queries, and for a layer with a store of its own keys and values too. A window store's ring is
// written by the layer's attention, which still needs what the ring held before.
void Model::Project(int layer, const Tile& tile, kernels::Stream& stream) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  const Store& store = config_.plan.stores[config_.plan.layers[layer].store];
  const int64_t width = weights.qkv.rows;
  const bool own = store.source == Source::kOwn;
  AwaitSum(tile);
  MatMul(act_.h, weights.qkv, act_.qkv, tile, stream);
  Activation* qkv = Offset(act_.qkv, tile.begin * width);
  if (weights.q_norm != nullptr || weights.k_norm != nullptr || store.rope) {
    const int64_t angles = int64_t{tile.begin} * store.head_dim / 2;
    backend_.HeadNormRope({.x = qkv,
                           .row_stride = width,
                           .num_rows = tile.count,
                           .q_heads = parts_.shard.heads,
                           .k_heads = own ? parts_.shard.kv_heads : 0,
                           .head_dim = store.head_dim,
                           .q_weight = weights.q_norm,
                           .k_weight = weights.k_norm,
                           .eps = config_.rms_norm_eps,
                           .cos = store.rope ? act_.rope_cos.As<float>() + angles : nullptr,
                           .sin = store.rope ? act_.rope_sin.As<float>() + angles : nullptr},
                          stream);
  }
  if (!own || store.window > 0) return;
  const int64_t k_begin = int64_t{parts_.shard.heads} * store.head_dim;
  WriteKv(config_.plan.layers[layer].store, kernels::Advance(qkv, k_begin, backend_.activation_type()), width,
          tile, stream);
}

// `k` lies in the projections of the tile's first row, V behind it.
void Model::WriteKv(int store, const Activation* k, int64_t row_stride, const Tile& tile,
                    kernels::Stream& stream) {
  const int head_dim = config_.plan.stores[store].head_dim;
  const int64_t width = int64_t{parts_.shard.kv_heads} * head_dim;
  backend_.WriteKv({.k = k,
                    .v = kernels::Advance(k, width, backend_.activation_type()),
                    .row_stride = row_stride,
                    .slots = inputs_.global_slots() + tile.begin,
                    .num_rows = tile.count,
                    .kv_heads = parts_.shard.kv_heads,
                    .head_dim = head_dim,
                    .cache = parts_.cache->store(store)},
                   stream);
}

// `h` holds m = norm(x) for all scheduled rows: K, V and index keys are written whatever rows their readers
// run on.
void Model::WriteMemoryStore(int store, const Tile& tile) {
  const MemoryWeights& weights = parts_.weights->memory;
  AwaitSum(tile);
  MatMul(act_.h, weights.kv, act_.qkv, tile, stream_);
  Activation* k = Offset(act_.qkv, tile.begin * weights.kv.rows);
  if (weights.k_norm != nullptr) {
    backend_.HeadNormRope({.x = k,
                           .row_stride = weights.kv.rows,
                           .num_rows = tile.count,
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
  WriteKv(store, k, weights.kv.rows, tile, stream_);

  if (!parts_.shard.indexes()) return;
  for (int indexer = 0; indexer < static_cast<int>(config_.plan.indexers.size()); ++indexer) {
    if (config_.plan.indexers[indexer].store == store) WriteIndexKeys(indexer, tile);
  }
}

void Model::WriteIndexKeys(int indexer, const Tile& tile) {
  const kernels::Matrix& index_k = parts_.weights->memory.index_k;
  MatMul(act_.h, index_k, act_.index_keys, tile, stream_);
  backend_.WriteIndexKeys({.keys = Offset(act_.index_keys, tile.begin * index_k.rows),
                           .slots = inputs_.global_slots() + tile.begin,
                           .num_rows = tile.count,
                           .dim = config_.plan.indexers[indexer].dim,
                           .cache = parts_.cache->index_keys(indexer)},
                          stream_);
}

// Who indexes scores the cache, keeps the top-k exactly and translates positions to slots: rank 0 all rows,
// or every rank its part of them. Then all ranks share the slots.
absl::Status Model::SelectTokens(int number) {
  const Shard& shard = parts_.shard;
  const int part = (rows_.count + shard.index_ranks - 1) / shard.index_ranks;
  const int begin = std::min(shard.rank * part, rows_.count);
  const int end = shard.indexes() ? std::min(begin + part, rows_.count) : begin;
  const StepPhase layers = half_ == Half::kTokens ? StepPhase::kSelfDecoder : StepPhase::kCrossDecoder;
  StepPhase left = layers;
  for (int row = begin; row < end; row += kIndexTile) {
    EnterIndex(left, StepPhase::kIndexScores);
    SelectTile(number, row, std::min(kIndexTile, end - row));
    left = StepPhase::kTopK;
  }
  EnterIndex(left, StepPhase::kIndexBroadcast);
  const size_t part_bytes = static_cast<size_t>(part) * config_.plan.indexers[number].top_k * sizeof(int32_t);
  const std::span all(act_.index_slots.As<std::byte>(), part_bytes * shard.index_ranks);
  if (shard.index_ranks == 1) {
    YOIO_RETURN_IF_ERROR(parts_.comm->Broadcast(all, /*root=*/0, stream_));
  } else {
    YOIO_RETURN_IF_ERROR(
        parts_.comm->AllGather(all.subspan(part_bytes * shard.rank, part_bytes), all, stream_));
  }
  EnterIndex(StepPhase::kIndexBroadcast, layers);
  return absl::OkStatus();
}

void Model::SelectTile(int number, int first_row, int num_rows) {
  const Indexer& indexer = config_.plan.indexers[number];
  const CacheGeometry& geometry = parts_.cache->geometry();
  const kernels::PagedRow* rows = inputs_.output_rows() + first_row;
  const int64_t score_stride = static_cast<int64_t>(geometry.max_blocks_per_sequence) * kernels::kBlockTokens;
  const int64_t selected = int64_t{first_row} * indexer.top_k;

  backend_.MatMul({.x = Offset(act_.output_h, int64_t{first_row} * config_.hidden_size),
                   .x_stride = config_.hidden_size,
                   .w = parts_.weights->memory.index_q,
                   .num_rows = num_rows,
                   .num_prompt_rows = 0,
                   .y = act_.index_q.data(),
                   .y_type = backend_.activation_type(),
                   .y_stride = indexer.dim},
                  stream_);
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
  EnterIndex(StepPhase::kIndexScores, StepPhase::kTopK);
  backend_.TopK({.scores = act_.index_scores.As<float>(),
                 .score_stride = score_stride,
                 .block_tables = inputs_.block_tables(),
                 .max_blocks = geometry.max_blocks_per_sequence,
                 .rows = rows,
                 .num_rows = num_rows,
                 .top_k = indexer.top_k,
                 .positions = act_.index_positions.As<int32_t>() + selected,
                 .slots = act_.index_slots.As<int32_t>() + selected,
                 .count = nullptr},
                stream_);
}

void Model::Attend(int number, const Tile& tile) {
  const Layer& layer = config_.plan.layers[number];
  const Store& store = config_.plan.stores[layer.store];
  const CacheGeometry& geometry = parts_.cache->geometry();
  const int64_t width = parts_.weights->layers[number].qkv.rows;
  const Activation* q = Offset(act_.qkv, tile.begin * width);
  Activation* out = Offset(act_.attended, int64_t{tile.begin} * parts_.shard.heads * store.head_dim);
  if (store.window > 0) {
    AttendWindow(number, tile);
  } else if (layer.indexer >= 0) {
    backend_.SparseAttention({.q = q,
                              .q_stride = width,
                              .cache = parts_.cache->store(layer.store),
                              .slots = index_.slots + int64_t{tile.begin} * index_.top_k,
                              .count = index_.count + tile.begin,
                              .top_k = index_.top_k,
                              .num_rows = tile.count,
                              .heads = parts_.shard.heads,
                              .kv_heads = parts_.shard.kv_heads,
                              .head_dim = store.head_dim,
                              .out = out},
                             stream_);
  } else {
    const auto* rows = half_ == Half::kTokens ? inputs_.token_rows() : inputs_.output_rows();
    backend_.DenseAttention({.q = q,
                             .q_stride = width,
                             .cache = parts_.cache->store(layer.store),
                             .block_tables = inputs_.block_tables(),
                             .max_blocks = geometry.max_blocks_per_sequence,
                             .rows = rows + tile.begin,
                             .num_rows = tile.count,
                             .heads = parts_.shard.heads,
                             .kv_heads = parts_.shard.kv_heads,
                             .head_dim = store.head_dim,
                             .out = out},
                            stream_);
  }
}

void Model::AttendWindow(int number, const Tile& tile) {
  const int index = config_.plan.layers[number].store;
  const Store& store = config_.plan.stores[index];
  YOIO_CHECK(store.source == Source::kOwn) << "a window store is read by the layer that writes it";
  const int64_t width = parts_.weights->layers[number].qkv.rows;
  const int64_t q_begin = tile.begin * width;
  const int64_t k_begin = q_begin + int64_t{parts_.shard.heads} * store.head_dim;
  const int64_t v_begin = k_begin + int64_t{parts_.shard.kv_heads} * store.head_dim;
  const std::span<const kernels::SequenceSpan> spans = inputs_.spans(tile.number);
  backend_.WindowAttention(
      {.q = Offset(act_.qkv, q_begin),
       .k = Offset(act_.qkv, k_begin),
       .v = Offset(act_.qkv, v_begin),
       .row_stride = width,
       .ring = parts_.cache->store(index),
       .ring_slots = inputs_.ring_slots() + tile.begin,
       .ring_tokens = parts_.cache->geometry().ring_tokens,
       .window = store.window,
       .spans = rows_.one_each ? nullptr : spans.data(),
       .num_spans = static_cast<int>(spans.size()),
       .rows = inputs_.token_rows() + tile.begin,
       .num_rows = tile.count,
       .num_prompt_rows = tile.prompt_count,
       .heads = parts_.shard.heads,
       .kv_heads = parts_.shard.kv_heads,
       .head_dim = store.head_dim,
       .out = Offset(act_.attended, int64_t{tile.begin} * parts_.shard.heads * store.head_dim)},
      stream_);
}

absl::Status Model::AddAttention(int layer, Tile& tile) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  MatMul(act_.attended, weights.o, act_.delta, tile, stream_);
  return AddDelta(tile, weights.post_attention_norm);
}

absl::Status Model::AddFeedForward(int layer, Tile& tile) {
  const LayerWeights& weights = parts_.weights->layers[layer];
  AwaitSum(tile);
  backend_.GateUp({.x = Offset(act_.h, tile.begin * weights.gate_up.cols),
                   .w = weights.gate_up,
                   .num_rows = tile.count,
                   .num_prompt_rows = tile.prompt_count,
                   .scratch = Offset(act_.gate_up, tile.begin * weights.gate_up.rows),
                   .out = Offset(act_.ffn, tile.begin * weights.down.cols)},
                  stream_);
  MatMul(act_.ffn, weights.down, act_.delta, tile, stream_);
  return AddDelta(tile, NormAfter(layer));
}

// x += the ranks' deltas, or with `starts` x = their sum; h = norm(x). With several tiles that runs beside
// the stream: it waits here for the sum of the tile before, which ran beside the products that have been
// queued since, and for this one when its norm is read.
absl::Status Model::AddDelta(Tile& tile, const float* norm, bool starts) {
  const bool beside = num_tiles_ > 1;
  if (beside) {
    for (const Tile& other : tiles()) AwaitSum(other);
    backend_.WaitFor(*side_, stream_);
    tile.summed = false;
  }
  const int64_t begin = int64_t{tile.begin} * config_.hidden_size;
  Activation* delta = Offset(act_.delta, begin);
  return parts_.comm->AllReduceResidualNorm(
      {.x = (half_ == Half::kTokens ? act_.x : act_.output_x).As<float>() + begin,
       .delta = delta,
       .weight = norm,
       .eps = config_.rms_norm_eps,
       .num_rows = tile.count,
       .hidden = config_.hidden_size,
       .out = Offset(act_.h, begin),
       .starts = starts},
      delta, backend_, beside ? *side_ : stream_);
}

void Model::AwaitSum(const Tile& tile) {
  if (tile.summed) return;
  backend_.WaitFor(stream_, *side_);
  for (Tile& each : tiles()) each.summed = true;
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

// Rows of x and y lie side by side.
void Model::MatMul(const kernels::Buffer& x, const kernels::Matrix& w, const kernels::Buffer& y,
                   const Tile& tile, kernels::Stream& stream) {
  backend_.MatMul({.x = Offset(x, tile.begin * w.cols),
                   .x_stride = w.cols,
                   .w = w,
                   .num_rows = tile.count,
                   .num_prompt_rows = tile.prompt_count,
                   .y = Offset(y, tile.begin * w.rows),
                   .y_type = backend_.activation_type(),
                   .y_stride = w.rows},
                  stream);
}

Activation* Model::Offset(const kernels::Buffer& buffer, int64_t elements) const {
  return kernels::Advance(buffer.As<Activation>(), elements, backend_.activation_type());
}

}  // namespace yoio
