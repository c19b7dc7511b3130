#include "engine/model/model.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/status.h"

namespace yoio {
namespace {

using kernels::Activation;

// Numbers of rows that steps are recorded for. Products take rows in eights, so that padding up to the next
// of these costs at most as much as it did not save.
constexpr int kRecordedRows[] = {1,  2,  4,  8,   16,  24,  32,  40,  48, 56,
                                 64, 80, 96, 112, 128, 160, 192, 224, 256};

// Where a tile of rows ends, products have no rows left over.
constexpr int kTileRows = 128;

// From how many prompt tokens on tiles pay. Two GPUs sum over peer memory, as fast as they can send and with
// all multiprocessors: tiles would only wait for each other (two H200 take a prompt 1.78 times as fast as one
// without tiles, and 1.58 times with them). More GPUs leave large sums to NCCL, which takes few.
int MinTiledTokens(int world) { return world > 2 ? 2048 : std::numeric_limits<int>::max(); }

// A selection has four marks and more, each of which takes a device as long as a small kernel. One or a few
// of them tell where the time went; of plans that select in every layer only the halves are told apart there.
constexpr size_t kMostMarkedIndexers = 6;

// A prompt of so many tokens in slot 0, from which nobody wants logits.
StepPlan PromptPlan(int count) {
  StepPlan plan;
  plan.admitted.push_back({.slot = 0, .sampling = {}, .stop_ids = {}, .prompt_ids = {}, .output_ids = {}});
  plan.new_blocks.resize((count + kernels::kBlockTokens - 1) / kernels::kBlockTokens);
  std::iota(plan.new_blocks.begin(), plan.new_blocks.end(), 0);
  plan.sequences.push_back({.slot = 0,
                            .token_begin = 0,
                            .token_count = count,
                            .start_position = 0,
                            .new_block_begin = 0,
                            .new_block_count = static_cast<int32_t>(plan.new_blocks.size())});
  plan.token_ids.resize(count);
  plan.positions.resize(count);
  std::iota(plan.positions.begin(), plan.positions.end(), 0);
  plan.num_prompt_tokens = count;
  return plan;
}

int FirstOutputLayer(const ModelPlan& plan) {
  const auto first = std::find_if(plan.layers.begin(), plan.layers.end(),
                                  [](const Layer& layer) { return layer.rows == Rows::kOutput; });
  return static_cast<int>(first - plan.layers.begin());
}

}  // namespace

Model::Model(const ModelParts& parts, const StepLimits& limits)
    : parts_(parts),
      config_(*parts.config),
      limits_(limits),
      backend_(*parts.backend),
      stream_(*parts.stream),
      first_output_layer_(FirstOutputLayer(parts.config->plan)),
      min_tiled_tokens_(parts.min_tiled_tokens > 0 ? parts.min_tiled_tokens
                                                   : MinTiledTokens(parts.shard.world)),
      marks_index_(!backend_.captures() || config_.plan.indexers.size() <= kMostMarkedIndexers),
      inputs_(parts.cache->geometry(), limits, config_.plan.indexers.empty() ? 0 : config_.index_topk) {}

absl::Status Model::Prepare() {
  const CacheGeometry& geometry = parts_.cache->geometry();
  YOIO_RETURN_IF_ERROR(inputs_.Allocate(backend_));
  YOIO_RETURN_IF_ERROR(act_.Allocate(config_, parts_.shard, limits_,
                                     geometry.max_blocks_per_sequence * kernels::kBlockTokens, backend_));
  side_ = &stream_;
  if (parts_.shard.world > 1) {
    YOIO_ASSIGN_OR_RETURN(side_, backend_.SideStream(stream_));
  }
  if (!backend_.captures()) return absl::OkStatus();
  YOIO_RETURN_IF_ERROR(WarmUp());
  // A sequence generates one token a step, so slots bound the rows. Steps that compute several of one again
  // are not recorded.
  const int most = std::min({geometry.max_sequences, limits_.max_step_tokens, limits_.max_output_rows});
  for (const Half half : {Half::kTokens, Half::kOutputs}) {
    for (const int count : kRecordedRows) {
      YOIO_RETURN_IF_ERROR(Record(half, std::min(count, most)));
      if (count >= most) break;
    }
  }
  return absl::OkStatus();
}

// What a first call loads and chooses would hold up the first prompts of each length for milliseconds, and
// take memory that the cache was not told of.
absl::Status Model::WarmUp() {
  const CacheGeometry& geometry = parts_.cache->geometry();
  const int longest = std::min(geometry.num_blocks, geometry.max_blocks_per_sequence) * kernels::kBlockTokens;
  const auto no_logits = [](int, int, const float*) { return absl::OkStatus(); };
  for (const int count : backend_.KindsOfRows(std::min(limits_.max_step_tokens, longest))) {
    YOIO_RETURN_IF_ERROR(Forward(PromptPlan(count), no_logits));
    YOIO_RETURN_IF_ERROR(backend_.Synchronize(stream_));
  }
  StepPlan end;
  end.released_slots = {0};
  inputs_.Load(end, {0, 0, 0}, backend_, stream_);
  return backend_.Synchronize(stream_);
}

// Runs once before it records: what is loaded and chosen at a first call must not happen in between.
absl::Status Model::Record(Half half, int count) {
  inputs_.Load(StepPlan{}, {count, count, count}, backend_, stream_);
  YOIO_RETURN_IF_ERROR(Run(half, {count, /*prompt_count=*/0, /*one_each=*/true, count}));
  YOIO_RETURN_IF_ERROR(backend_.Synchronize(stream_));
  backend_.BeginCapture(stream_);
  const absl::Status walked = Walk(half);
  auto graph = backend_.EndCapture(stream_);
  YOIO_RETURN_IF_ERROR(walked);
  YOIO_RETURN_IF_ERROR(graph.status());
  graphs_[static_cast<int>(half)][count] = *std::move(graph);
  return absl::OkStatus();
}

absl::Status Model::Forward(const StepPlan& plan, LogitsSink sink) {
  const RowSet tokens = Padded(Half::kTokens, TokenRows(plan));
  const int num_outputs = static_cast<int>(plan.output_tokens.size());
  const RowSet outputs =
      Padded(Half::kOutputs, {num_outputs, /*prompt_count=*/0, /*one_each=*/true, num_outputs});
  inputs_.Load(plan, {tokens.count, outputs.count, tokens.first_tile}, backend_, stream_);
  parts_.cache->Copy(plan, backend_, stream_);
  for (const int32_t slot : inputs_.unfilled_rings()) parts_.cache->ClearRing(slot, backend_, stream_);

  recorded_ = true;
  YOIO_RETURN_IF_ERROR(Run(Half::kTokens, tokens));
  if (plan.output_tokens.empty()) return absl::OkStatus();  // the prefill's early exit: nobody needs logits
  YOIO_RETURN_IF_ERROR(Run(Half::kOutputs, outputs));
  Enter(StepPhase::kCrossDecoder, StepPhase::kSampling);
  return Logits(num_outputs, sink);
}

// Filled up to the smallest recorded number of rows. What cannot be recorded stays as it is: prompts come in
// any length.
Model::RowSet Model::Padded(Half half, const RowSet& exact) const {
  if (!exact.one_each || exact.count == 0) return exact;
  const auto& graphs = graphs_[static_cast<int>(half)];
  const auto graph = graphs.lower_bound(exact.count);
  return graph == graphs.end() ? exact : RowSet{graph->first, 0, true, graph->first};
}

Model::RowSet Model::TokenRows(const StepPlan& plan) const {
  const int count = static_cast<int>(plan.token_ids.size());
  const bool one_each = plan.num_prompt_tokens == 0 && plan.sequences.size() == plan.token_ids.size();
  const int half = (count / 2 + kTileRows - 1) / kTileRows * kTileRows;
  const bool tiled = parts_.shard.world > 1 && plan.num_prompt_tokens >= min_tiled_tokens_;
  return {count, plan.num_prompt_tokens, one_each, tiled && half < plan.num_prompt_tokens ? half : count};
}

void Model::SetRows(Half half, const RowSet& rows) {
  half_ = half;
  rows_ = rows;
  const int first = rows.first_tile;
  tiles_[0] = {0, 0, first, std::min(rows.prompt_count, first)};
  tiles_[1] = {1, first, rows.count - first, std::max(rows.prompt_count - first, 0)};
  num_tiles_ = first < rows.count ? 2 : 1;
  if (half == Half::kOutputs && !config_.plan.indexers.empty()) {
    index_ = {act_.index_slots.As<int32_t>(), inputs_.index_counts(), rows.count, config_.index_topk};
  }
}

absl::Status Model::Run(Half half, const RowSet& rows) {
  SetRows(half, rows);
  const auto& graphs = graphs_[static_cast<int>(half)];
  const auto graph = graphs.find(rows.count);
  if (!rows.one_each || graph == graphs.end()) {
    recorded_ = false;
    return Walk(half);
  }
  backend_.Replay(*graph->second, stream_);
  return absl::OkStatus();
}

void Model::Enter(StepPhase left, StepPhase entered) {
  if (parts_.marks != nullptr) parts_.marks->Enter(left, entered);
}

void Model::EnterIndex(StepPhase left, StepPhase entered) {
  if (marks_index_) Enter(left, entered);
}

absl::Status Model::Walk(Half half) {
  const int num_layers = static_cast<int>(config_.plan.layers.size());
  if (half == Half::kTokens) {
    Enter(StepPhase::kInputs, StepPhase::kSelfDecoder);
    YOIO_RETURN_IF_ERROR(Embed());
    for (int layer = 0; layer < first_output_layer_; ++layer) YOIO_RETURN_IF_ERROR(RunLayer(layer));
    for (const Tile& tile : tiles()) AwaitSum(tile);
  } else {
    Enter(StepPhase::kSelfDecoder, StepPhase::kCrossDecoder);
    NarrowToOutputRows();
    for (int layer = first_output_layer_; layer < num_layers; ++layer) YOIO_RETURN_IF_ERROR(RunLayer(layer));
  }
  return absl::OkStatus();
}

absl::Status Model::RunLayer(int number) {
  const bool selects = FirstToName(number);
  if (selects) YOIO_RETURN_IF_ERROR(ProjectBesideIndex(number));
  for (Tile& tile : tiles()) {
    if (!selects) Project(number, tile, stream_);
    Attend(number, tile);
    YOIO_RETURN_IF_ERROR(AddAttention(number, tile));
  }
  for (Tile& tile : tiles()) YOIO_RETURN_IF_ERROR(AddFeedForward(number, tile));
  for (int store = 0; store < static_cast<int>(config_.plan.stores.size()); ++store) {
    const Store& written = config_.plan.stores[store];
    if (written.source != Source::kMemory || written.layer != number) continue;
    for (const Tile& tile : tiles()) WriteMemoryStore(store, tile);
  }
  return absl::OkStatus();
}

// An embedding is the first delta: on every rank but one its row is zeros, so that the sum over ranks is
// exact.
absl::Status Model::Embed() {
  backend_.Embed({.ids = inputs_.token_ids(),
                  .previous = parts_.previous_samples,
                  .table = parts_.weights->embedding,
                  .vocab_begin = parts_.shard.vocab_begin,
                  .num_tokens = rows_.count,
                  .out = act_.delta.As<Activation>()},
                 stream_);
  const float* norm = parts_.weights->layers[0].input_norm;
  for (Tile& tile : tiles()) YOIO_RETURN_IF_ERROR(AddDelta(tile, norm, /*starts=*/true));
  backend_.RopeTable({.positions = inputs_.positions(),
                      .num_tokens = rows_.count,
                      .head_dim = config_.head_dim,
                      .theta = config_.rope_theta,
                      .cos = act_.rope_cos.As<float>(),
                      .sin = act_.rope_sin.As<float>()},
                     stream_);
  return absl::OkStatus();
}

// From here on only output rows run, all of them on the skinny product: most often each prompt has one.
// `output_h` keeps m, which the indexer's queries come from.
void Model::NarrowToOutputRows() {
  const auto gather = [&](const kernels::Buffer& from, const kernels::Buffer& to, size_t element_bytes) {
    backend_.GatherRows({.src = from.data(),
                         .rows = inputs_.output_tokens(),
                         .num_rows = rows_.count,
                         .row_bytes = static_cast<int64_t>(element_bytes) * config_.hidden_size,
                         .out = to.data()},
                        stream_);
  };
  gather(act_.h, act_.output_h, SizeOf(backend_.activation_type()));
  gather(act_.x, act_.output_x, sizeof(float));
  if (first_output_layer_ < static_cast<int>(config_.plan.layers.size())) {
    Norm(parts_.weights->layers[first_output_layer_].input_norm, act_.h.As<Activation>());
  }
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

absl::Status Model::Logits(int num_rows, LogitsSink sink) {
  const bool narrowed = first_output_layer_ < static_cast<int>(config_.plan.layers.size());
  const kernels::Buffer& last = narrowed ? act_.h : act_.output_h;
  float* logits = act_.logits.As<float>();
  for (int first = 0; first < num_rows; first += kLogitsTile) {
    const int count = std::min(kLogitsTile, num_rows - first);
    backend_.MatMul({.x = Offset(last, static_cast<int64_t>(first) * config_.hidden_size),
                     .x_stride = config_.hidden_size,
                     .w = parts_.weights->lm_head,
                     .num_rows = count,
                     .num_prompt_rows = 0,
                     .y = logits,
                     .y_type = kernels::DType::kF32,
                     .y_stride = parts_.shard.vocab_stride},
                    stream_);
    YOIO_RETURN_IF_ERROR(sink(first, count, logits));
  }
  return absl::OkStatus();
}

bool Model::FirstToName(int layer) const {
  const auto& layers = config_.plan.layers;
  if (layers[layer].indexer < 0) return false;
  return std::none_of(layers.begin(), layers.begin() + layer,
                      [&](const Layer& earlier) { return earlier.indexer == layers[layer].indexer; });
}

}  // namespace yoio
