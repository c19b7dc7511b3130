#include "engine/create.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/checkpoint/config.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/engine_impl.h"
#include "engine/leader.h"
#include "engine/memory_plan.h"
#include "engine/node.h"

namespace yoio {
namespace {

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const EngineOptions& options,
                                                         const ModelConfig& config) {
  const std::string path = options.model_dir + "/tokenizer.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return nullptr;  // ids only
  YOIO_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::FromFile(path));
  if (tokenizer->vocab_size() > config.vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": its highest token id is ",
                                                   tokenizer->vocab_size() - 1,
                                                   ", but vocab_size of config.json is ", config.vocab_size));
  }
  return tokenizer;
}

ModelInfo Describe(const EngineOptions& options, const ModelConfig& config, const Sizing& sizing,
                   const SamplingParams& defaults, const Checkpoint* checkpoint, bool has_tokenizer) {
  return {.architecture = config.model_type,
          .revision = checkpoint != nullptr ? checkpoint->fingerprint() : "dummy",
          .max_model_len = sizing.max_model_len,
          .vocab_size = config.vocab_size,
          .num_layers = config.num_hidden_layers,
          .hidden_size = config.hidden_size,
          .sliding_window = config.sliding_window,
          .index_top_k = config.index_topk,
          .eos_ids = config.eos_token_ids,
          .has_tokenizer = has_tokenizer,
          .defaults = defaults,
          .default_max_tokens = options.default_max_tokens};
}

TokenGap ChooseTokenGap(const EngineOptions& options, kernels::DeviceKind kind) {
  if (options.max_token_gap > Duration::zero()) return {options.max_token_gap, /*even=*/false};
  return {std::chrono::milliseconds(kind == kernels::DeviceKind::kCpu ? 100 : 10), /*even=*/true};
}

// Engine::Create has begun at `begin`.
absl::StatusOr<std::unique_ptr<Engine>> Build(const EngineOptions& options, Node node, TimePoint begin) {
  EngineParts parts;
  parts.load_times.push_back({"config", begin, Clock::now()});
  parts.options = options;
  parts.node = std::make_unique<Node>(std::move(node));
  parts.token_gap = ChooseTokenGap(options, parts.node->devices.kind());
  const ModelConfig& config = *parts.node->config;
  YOIO_ASSIGN_OR_RETURN(const SamplingParams defaults, ReadSamplingDefaults(options.model_dir));
  const TimePoint tokenizer_begin = Clock::now();
  YOIO_ASSIGN_OR_RETURN(parts.tokenizer, LoadTokenizer(options, config));
  parts.load_times.push_back({"tokenizer", tokenizer_begin, Clock::now()});
  parts.notes = std::make_unique<StepNotes>(options.tensor_parallel_size);
  YOIO_ASSIGN_OR_RETURN(parts.leader, Leader::Create(options, *parts.node,
                                                     [notes = parts.notes.get()](int rank, int64_t step,
                                                                                 const StepTimes& times) {
                                                       notes->RankEnded(rank, step, times);
                                                     }));
  const std::vector<LoadTime> ranks_times = parts.leader->load_times();
  parts.load_times.insert(parts.load_times.end(), ranks_times.begin(), ranks_times.end());
  const Sizing& sizing = parts.leader->sizing();
  parts.memory = sizing.memory;
  parts.depth = sizing.limits.depth;
  const std::unique_ptr<Checkpoint> checkpoint = *std::move(parts.node->checkpoint);  // goes: all is loaded
  parts.model = Describe(options, config, sizing, defaults, checkpoint.get(), parts.tokenizer != nullptr);
  parts.limits = {.max_request_bytes = options.max_request_bytes,
                  .max_sequences = options.max_sequences,
                  .max_step_tokens = sizing.limits.max_step_tokens,
                  .max_request_time = options.max_request_time,
                  .max_queued_requests = options.max_queued_requests,
                  .max_queued_tokens = options.max_queued_tokens,
                  .tenant = options.tenant_limits,
                  .max_token_gap = parts.token_gap.most};
  parts.scheduler = {.block_tokens = kernels::kBlockTokens,
                     .num_blocks = sizing.cache.num_blocks,
                     .max_sequences = options.max_sequences,
                     .max_step_tokens = sizing.limits.max_step_tokens,
                     .max_output_rows = sizing.limits.max_output_rows,
                     .prefix_cache = sizing.prefix_cache,
                     .num_snapshots = sizing.cache.num_snapshots,
                     .ring_tokens = sizing.cache.ring_tokens,
                     .replay_tokens = sizing.replay_tokens,
                     .host_blocks = sizing.cache.host_blocks,
                     .host_rings = sizing.cache.host_rings};
  return std::make_unique<EngineImpl>(std::move(parts));
}

}  // namespace

absl::StatusOr<MemoryPlan> Engine::DryRun(const EngineOptions& options) {
  YOIO_ASSIGN_OR_RETURN(const Node node, OpenNode(options));
  YOIO_ASSIGN_OR_RETURN(const Sizing sizing, PlanMemory(options, *node.config, node.memory));
  YOIO_RETURN_IF_ERROR(ChooseCommunicator(options, node.devices.kind()).status());
  YOIO_RETURN_IF_ERROR(node.checkpoint.status());
  return sizing.memory;
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options) {
  const TimePoint begin = Clock::now();
  YOIO_ASSIGN_OR_RETURN(Node node, OpenNode(options));
  return Build(options, std::move(node), begin);
}

absl::StatusOr<std::unique_ptr<Engine>> CreateEngine(const EngineOptions& options, Devices devices) {
  const TimePoint begin = Clock::now();
  YOIO_ASSIGN_OR_RETURN(Node node, OpenNode(options, std::move(devices)));
  return Build(options, std::move(node), begin);
}

}  // namespace yoio
