#include "tests/parity/model_harness.h"

#include <utility>

#include "base/status.h"
#include "engine/checkpoint/config.h"
#include "engine/checkpoint/safetensors.h"
#include "tests/support/spawn_ranks.h"

namespace yoio::test {

absl::StatusOr<std::unique_ptr<ModelHarness>> ModelHarness::Create(const HarnessOptions& options) {
  auto harness = std::unique_ptr<ModelHarness>(new ModelHarness(options));
  const std::string dense = std::string(YOIO_SOURCE_DIR) + "/tests/parity/dense.json";
  YOIO_ASSIGN_OR_RETURN(harness->config_, ReadModelConfig(options.dir, options.dense ? dense : ""));
  YOIO_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(options.dir));
  YOIO_ASSIGN_OR_RETURN(harness->backend_, kernels::MakeBackend(options.device, 0));
  const std::vector<kernels::Backend*> backends(options.world, harness->backend_.get());
  YOIO_ASSIGN_OR_RETURN(harness->comms_,
                        MakeCommunicators({.world = options.world, .num_ranks = options.world}, backends));

  const int blocks = (options.max_tokens + kernels::kBlockTokens - 1) / kernels::kBlockTokens;
  const CacheGeometry geometry{.num_blocks = blocks * options.max_sequences,
                               .max_sequences = options.max_sequences,
                               .max_blocks_per_sequence = blocks,
                               .ring_tokens = CacheGeometry::RingTokens(harness->config_.plan)};
  const StepLimits limits{options.max_step_tokens, options.max_output_rows};
  harness->blocks_given_.assign(options.max_sequences, 0);
  harness->ranks_.resize(options.world);
  const ModelConfig& config = harness->config_;
  kernels::Backend& backend = *harness->backend_;
  for (int i = 0; i < options.world; ++i) {
    Rank& rank = harness->ranks_[i];
    YOIO_ASSIGN_OR_RETURN(const Shard shard, Shard::Make(config, i, options.world));
    YOIO_ASSIGN_OR_RETURN(rank.stream, backend.NewStream(options.threads));
    YOIO_ASSIGN_OR_RETURN(rank.weights,
                          Weights::Load(config, shard, *checkpoint, backend, *rank.stream, nullptr));
    YOIO_ASSIGN_OR_RETURN(rank.cache, KvCache::Create(config, shard, geometry, backend));
    rank.model = std::make_unique<Model>(ModelParts{.config = &config,
                                                    .shard = shard,
                                                    .weights = rank.weights.get(),
                                                    .cache = rank.cache.get(),
                                                    .backend = &backend,
                                                    .comm = harness->comms_[i].get(),
                                                    .stream = rank.stream.get()},
                                         limits);
    YOIO_RETURN_IF_ERROR(rank.model->Prepare());
  }
  return harness;
}

StepPlan ModelHarness::MakePlan(const std::vector<Piece>& pieces) {
  StepPlan plan;
  plan.step = step_++;
  for (const Piece& piece : pieces) {
    const auto count = static_cast<int32_t>(piece.ids.size());
    const auto begin = static_cast<int32_t>(plan.token_ids.size());
    const int32_t needed = (piece.start + count + kernels::kBlockTokens - 1) / kernels::kBlockTokens;
    int32_t& given = blocks_given_[piece.slot];
    StepSequence sequence{.slot = piece.slot,
                          .token_begin = begin,
                          .token_count = count,
                          .start_position = piece.start,
                          .new_block_begin = static_cast<int32_t>(plan.new_blocks.size()),
                          .new_block_count = std::max(0, needed - given)};
    for (; given < needed; ++given) plan.new_blocks.push_back(given * options_.max_sequences + piece.slot);
    plan.sequences.push_back(sequence);
    for (int32_t i = 0; i < count; ++i) plan.positions.push_back(piece.start + i);
    plan.token_ids.insert(plan.token_ids.end(), piece.ids.begin(), piece.ids.end());
    for (const int32_t offset : piece.outputs) plan.output_tokens.push_back(begin + offset);
    if (!piece.generated) plan.num_prompt_tokens = static_cast<int32_t>(plan.token_ids.size());
  }
  return plan;
}

absl::StatusOr<StepOutput> ModelHarness::Run(const std::vector<Piece>& pieces) {
  const StepPlan plan = MakePlan(pieces);
  StepOutput output;
  output.logits.resize(plan.output_tokens.size() * config_.vocab_size);
  kernels::Stream& stream = *ranks_[0].stream;
  const auto sink = [&](int first_row, int num_rows, const float* logits) {
    float* out = output.logits.data() + static_cast<int64_t>(first_row) * config_.vocab_size;
    const size_t bytes = static_cast<size_t>(num_rows) * config_.vocab_size * sizeof(float);
    backend_->CopyToHost(out, logits, bytes, stream);
    return backend_->Synchronize(stream);
  };
  YOIO_RETURN_IF_ERROR(SpawnRanks(comms_, [&](Communicator& comm) -> absl::Status {
    const Rank& rank = ranks_[comm.rank()];
    YOIO_RETURN_IF_ERROR(rank.model->Forward(plan, sink));
    return backend_->Synchronize(*rank.stream);  // only then may the next step be loaded
  }));
  if (config_.plan.indexers.empty() || plan.output_tokens.empty()) return output;
  const IndexSet& index = ranks_[0].model->last_index();
  const size_t num_rows = plan.output_tokens.size();
  std::vector<int32_t> counts(num_rows), positions(num_rows * index.top_k);
  backend_->CopyToHost(counts.data(), index.count, counts.size() * sizeof(int32_t), stream);
  backend_->CopyToHost(positions.data(), ranks_[0].model->last_index_positions(),
                       positions.size() * sizeof(int32_t), stream);
  YOIO_RETURN_IF_ERROR(backend_->Synchronize(stream));
  for (size_t row = 0; row < num_rows; ++row) {
    const auto first = positions.begin() + static_cast<std::ptrdiff_t>(row * index.top_k);
    output.positions.emplace_back(first, first + counts[row]);
  }
  return output;
}

}  // namespace yoio::test
