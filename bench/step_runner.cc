#include "bench/step_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "bench/measure.h"

namespace yoio::bench {
namespace {

using kernels::kBlockTokens;

constexpr double kSampleSeconds = 0.2;  // of steps in one sample, at most kDepth of them
constexpr int kSamples = 5;
constexpr int kPrefills = 3;

int BlocksFor(int tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

CacheGeometry Geometry(const ModelConfig& config, const Scale& scale) {
  const int tokens =
      std::max(*std::max_element(scale.contexts.begin(), scale.contexts.end()), scale.prompt_end);
  return {.num_blocks = BlocksFor(tokens) * scale.batches.back(),
          .max_sequences = scale.batches.back(),
          .max_blocks_per_sequence = BlocksFor(tokens),
          .ring_tokens = CacheGeometry::RingTokens(config.plan)};
}

// Of the slot and the output row of that number.
SampleRow GreedySample(int number) {
  return {.output_row = number,
          .slot = number,
          .sample_index = 0,
          .output_position = 0,
          .logprob = false,
          .top_n = 0};
}

// A GPU holds one rank, of which rank 0 is the largest; a CPU holds all.
absl::Status CheckRoom(RankLabs& labs, const StepShape& shape) {
  kernels::Backend& backend = labs.lab(0).backend();
  int64_t bytes = 0;
  for (int rank = 0; rank < (labs.lab(0).on_gpu() ? 1 : labs.world()); ++rank) {
    YOIO_ASSIGN_OR_RETURN(const Shard shard,
                          Shard::Make(shape.config, rank, labs.world(), shape.index_by_rows));
    bytes += StepRank::Bytes(shape, shard, backend.activation_type());
  }
  YOIO_ASSIGN_OR_RETURN(const int64_t available, backend.AvailableBytes());
  if (bytes <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrFormat("it takes %.1f GiB, and %.1f GiB are free", bytes / 0x1p30, available / 0x1p30));
}

}  // namespace

Scale Scale::Of(const Lab& lab) {
  if (lab.on_gpu()) return {{4096, 131072}, {1, 8, 32}, 8192, 0, 131072};
  return {{4096, 16384, 65536}, {1}, 512, 8192, 8192 + 512};
}

absl::StatusOr<std::unique_ptr<StepRunner>> StepRunner::Create(RankLabs& labs, const ModelConfig& config,
                                                               const Scale& scale, bool index_by_rows,
                                                               bool marked) {
  const StepLimits limits{std::max(scale.chunk, scale.batches.back()), scale.batches.back(), kDepth};
  StepShape shape{config, limits, Geometry(config, scale), index_by_rows, marked};
  YOIO_RETURN_IF_ERROR(CheckRoom(labs, shape));
  return std::unique_ptr<StepRunner>(new StepRunner(labs, std::move(shape)));
}

StepRunner::StepRunner(RankLabs& labs, StepShape shape)
    : labs_(labs), shape_(std::move(shape)), ranks_(labs.world()) {
  labs.RunOnAll(
      [&](int rank) { ranks_[rank] = std::make_unique<StepRank>(labs.lab(rank), labs.comm(rank), shape_); });
}

StepRunner::~StepRunner() {
  labs_.RunOnAll([&](int rank) { ranks_[rank].reset(); });
}

void StepRunner::StartDecode(int context, int batch) {
  const StepPlan first = DecodePlan(context, batch, /*first=*/true);
  Start(first, DecodePlan(context, batch, /*first=*/false));
}

void StepRunner::StartPrompt(int begin, int count) {
  const StepPlan first = PromptPlan(begin, count, /*first=*/true, /*last=*/false);
  Start(first, PromptPlan(begin, count, /*first=*/false, /*last=*/false));
}

void StepRunner::Start(const StepPlan& first, StepPlan step) {
  labs_.Seconds([&](int rank) { ranks_[rank]->Run(first); });
  step_ = std::move(step);
}

double StepRunner::StepSeconds() {
  const double guess = StepSeconds(2);
  const int steps = std::clamp(static_cast<int>(kSampleSeconds / guess), 1, kDepth);
  std::vector<double> seconds;
  for (int i = 0; i < kSamples; ++i) seconds.push_back(StepSeconds(steps));
  return Median(std::move(seconds));
}

double StepRunner::StepSeconds(int steps) {
  const double seconds = labs_.Seconds([&](int rank) {
    for (int i = 0; i < steps; ++i) ranks_[rank]->Run(step_);
  });
  return seconds / steps;
}

double StepRunner::PrefillSeconds(int begin, int end, int chunk) {
  std::vector<StepPlan> plans;
  for (int start = begin; start < end; start += chunk)
    plans.push_back(PromptPlan(start, std::min(chunk, end - start), start == begin, start + chunk >= end));
  const auto prefill = [&] {
    return labs_.Seconds([&](int rank) {
      int queued = 0;
      for (const StepPlan& plan : plans) {
        ranks_[rank]->Run(plan);
        if (++queued % kDepth == 0) labs_.lab(rank).Synchronize();
      }
    });
  };
  prefill();
  std::vector<double> seconds;
  for (int i = 0; i < kPrefills; ++i) seconds.push_back(prefill());
  return Median(std::move(seconds));
}

// Sequences get their slots and blocks in the first step of a measurement, not in the ones that are timed.
void StepRunner::Admit(StepPlan& plan, int slot, int tokens) {
  plan.admitted.push_back({.slot = slot,
                           .sampling = {.temperature = 0.0f, .logit_bias = {}},
                           .stop_ids = {},
                           .prompt_ids = {},
                           .output_ids = {}});
  plan.sequences.back().new_block_begin = static_cast<int32_t>(plan.new_blocks.size());
  plan.sequences.back().new_block_count = BlocksFor(tokens);
  // Neighbours in a sequence are no neighbours in memory.
  for (int i = 0; i < BlocksFor(tokens); ++i) plan.new_blocks.push_back(blocks_.at(next_block_++));
}

void StepRunner::ShuffleBlocks() {
  blocks_ = random_.Permutation(shape_.geometry.num_blocks);
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
    plan.samples.push_back(GreedySample(i));
  }
  return plan;
}

StepPlan StepRunner::PromptPlan(int start, int count, bool first, bool last) {
  StepPlan plan;
  if (first) ShuffleBlocks();
  plan.sequences.push_back({0, 0, count, start, 0, 0});
  if (first) Admit(plan, 0, shape_.geometry.max_blocks_per_sequence * kBlockTokens);
  for (int i = 0; i < count; ++i) {
    plan.token_ids.push_back((start + i) * 31 % shape_.config.vocab_size);
    plan.positions.push_back(start + i);
  }
  plan.num_prompt_tokens = count;
  if (last) {
    plan.output_tokens = {count - 1};
    plan.samples = {GreedySample(0)};
  }
  return plan;
}

}  // namespace yoio::bench
