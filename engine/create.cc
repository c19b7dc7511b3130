// Engine::Create: from a checkpoint directory to an engine that waits for its first request.
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/checkpoint/config.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/engine_impl.h"
#include "engine/memory_plan.h"

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

// The device that the options name. With `auto` that is a GPU that this build can use and on which the model
// fits, else the CPU.
absl::StatusOr<std::unique_ptr<kernels::Backend>> ChooseDevice(const EngineOptions& options,
                                                               const ModelConfig& config) {
  if (options.device == Device::kCpu) return kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
  auto gpu = kernels::MakeBackend(kernels::DeviceKind::kCuda, 0);
  if (gpu.ok() && options.tensor_parallel_size > 1) {
    gpu =
        absl::FailedPreconditionError(absl::StrCat("--tensor-parallel-size on ", std::string((*gpu)->name()),
                                                   ": expected 1, got ", options.tensor_parallel_size));
  }
  if (options.device == Device::kCuda) return gpu;
  absl::Status refusal = gpu.status();
  if (gpu.ok()) refusal = PlanMemory(options, config, **gpu).status();
  if (gpu.ok() && !absl::IsResourceExhausted(refusal)) return gpu;
  if (!absl::IsUnimplemented(refusal) && options.on_fallback) options.on_fallback(refusal);
  return kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
}

}  // namespace

absl::StatusOr<MemoryPlan> Engine::DryRun(const EngineOptions& options) {
  YOIO_ASSIGN_OR_RETURN(const ModelConfig config,
                        ReadModelConfig(options.model_dir, options.config_override));
  YOIO_ASSIGN_OR_RETURN(const auto backend, ChooseDevice(options, config));
  YOIO_ASSIGN_OR_RETURN(const Sizing sizing, PlanMemory(options, config, *backend));
  if (options.load_format != LoadFormat::kDummy) {
    YOIO_RETURN_IF_ERROR(Checkpoint::Open(options.model_dir).status());
  }
  return sizing.memory;
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options) {
  YOIO_ASSIGN_OR_RETURN(const ModelConfig config,
                        ReadModelConfig(options.model_dir, options.config_override));
  YOIO_ASSIGN_OR_RETURN(auto backend, ChooseDevice(options, config));
  return CreateEngine(options, std::move(backend));
}

absl::StatusOr<std::unique_ptr<Engine>> CreateEngine(const EngineOptions& options,
                                                     std::unique_ptr<kernels::Backend> backend) {
  EngineParts parts;
  parts.options = options;
  parts.backend = std::move(backend);
  YOIO_ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(options.model_dir, options.config_override));
  parts.config = std::make_unique<ModelConfig>(std::move(config));
  YOIO_ASSIGN_OR_RETURN(const SamplingParams defaults, ReadSamplingDefaults(options.model_dir));
  YOIO_ASSIGN_OR_RETURN(parts.tokenizer, LoadTokenizer(options, *parts.config));
  std::unique_ptr<Checkpoint> checkpoint;
  if (options.load_format != LoadFormat::kDummy) {
    YOIO_ASSIGN_OR_RETURN(checkpoint, Checkpoint::Open(options.model_dir));
  }
  YOIO_ASSIGN_OR_RETURN(const Sizing sizing, PlanMemory(options, *parts.config, *parts.backend));
  parts.depth = sizing.limits.depth;
  WorkerGroupOptions workers{.worker = {.config = parts.config.get(),
                                        .checkpoint = checkpoint.get(),
                                        .sizing = sizing,
                                        .backend = parts.backend.get()},
                             .world = options.tensor_parallel_size,
                             .threads = sizing.memory.threads};
  if (options.on_progress) {
    workers.worker.progress = [&options](int64_t done, int64_t total) {
      options.on_progress("loading weights", done, total);
    };
  }
  YOIO_ASSIGN_OR_RETURN(parts.workers, WorkerGroup::Create(workers));

  parts.memory = sizing.memory;
  parts.model =
      Describe(options, *parts.config, sizing, defaults, checkpoint.get(), parts.tokenizer != nullptr);
  parts.limits = {.max_request_bytes = options.max_request_bytes,
                  .max_sequences = options.max_sequences,
                  .max_step_tokens = sizing.limits.max_step_tokens,
                  .max_request_time = options.max_request_time};
  parts.scheduler = {.block_tokens = kernels::kBlockTokens,
                     .num_blocks = sizing.cache.num_blocks,
                     .max_sequences = options.max_sequences,
                     .max_step_tokens = sizing.limits.max_step_tokens,
                     .max_output_rows = sizing.limits.max_output_rows};
  return std::make_unique<EngineImpl>(std::move(parts));
}

}  // namespace yoio
