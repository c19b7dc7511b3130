// The continuous-batching engine: requests in, events out.
#ifndef YOIO_ENGINE_ENGINE_H_
#define YOIO_ENGINE_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/flight_recorder.h"
#include "engine/latency_histogram.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/step_times.h"

namespace yoio {

// kAuto: a GPU that this build can use and on which the model fits, else the CPU.
enum class Device { kAuto, kCpu, kCuda };
enum class LoadFormat { kAuto, kDummy };
// How ranks talk. kAuto: nccl on GPUs, socket between processes on CPUs, else local.
enum class Communication { kAuto, kLocal, kSocket, kNccl };
// Who scores the cache: rank 0 all rows, or each rank its part of the rows, with index keys on every rank.
enum class IndexSharding { kRank0, kRows };

class Doorway;

struct EngineOptions {
  std::string model_dir;
  std::string config_override;  // path of a JSON file merged over config.json, or empty
  LoadFormat load_format = LoadFormat::kAuto;
  Device device = Device::kAuto;
  int tensor_parallel_size = 1;  // ranks of all nodes together
  int nnodes = 1;                // processes that share the ranks evenly, in order
  int node_rank = 0;             // which of them this is; 0 is the leader
  Communication communication = Communication::kAuto;
  IndexSharding index_sharding = IndexSharding::kRank0;
  Doorway* doorway = nullptr;  // where followers come in, when there are several nodes; outlives the engine
  std::string group_host;      // at which address of the leader followers find rank 0, for kSocket
  std::string version;         // of this program: those of all nodes must be the same
  int threads = 0;             // all ranks together; 0: cgroup quota, affinity or cores, whichever is least
  int text_threads = 2;
  int64_t kv_cache_bytes = 0;  // per rank; 0: from the memory that is free
  int max_model_len = 0;       // 0: the model's own
  int max_sequences = 64;
  int max_step_tokens = 0;  // 0: 512 on CPU, 8192 on CUDA
  int max_output_rows = 512;
  int default_max_tokens = 1024;
  // No step with a token for somebody is made longer than this by prompts, as far as recent steps tell, or
  // than twice its time without them. 0: tokens come evenly while few prompts wait (engine/step_pace.h), and
  // the bound is 100 ms on CPU, 10 ms on CUDA.
  Duration max_token_gap{0};
  bool prefix_cache = true;
  int64_t swap_bytes = -1;  // host memory per rank for preempted sequences; -1: sized from what is free
  int32_t max_queued_requests = 1024;
  int64_t max_queued_tokens = int64_t{16} << 20;  // prompt tokens of those
  TenantLimits tenant_limits;                     // of tenants that bring none of their own
  // After the start; from then on a request whose deadline cannot be met is refused.
  Duration prediction_delay = std::chrono::minutes(1);
  int pipeline_depth = 0;  // steps in flight; 0: 1 on CPU, 2 on CUDA
  size_t max_request_bytes = 16 << 20;
  Duration stall_timeout = std::chrono::seconds(60);
  Duration step_timeout{0};  // no step takes longer, or the engine has failed; 0: 60 s on CPU, 30 s on CUDA
  Duration load_timeout = std::chrono::minutes(30);  // for all nodes to have come and loaded
  Duration max_request_time = std::chrono::hours(1);
  Duration progress_interval = std::chrono::seconds(10);
  // Told what start-up is doing ("loading weights", done, total). Called while Create blocks, from a
  // thread of the engine. May be empty.
  std::function<void(std::string_view what, int64_t done, int64_t total)> on_progress;
  // Told why Device::kAuto takes the CPU, unless this build knows of nothing else. Called while Create or
  // DryRun blocks, from their thread. May be empty.
  std::function<void(const absl::Status& reason)> on_fallback;
  // Told why somebody who knocked at the doorway was turned away, when that is no reason for the engine to
  // end: a second follower of one node, say. Called by a thread of the engine. May be empty.
  std::function<void(const absl::Status& reason)> on_refusal;
  // Told what has failed, and what all ranks are doing (of a follower: its own), before anything is aborted
  // for it. Called at most once, by a thread of the engine; what it takes, callers wait longer for the end.
  // May be empty.
  std::function<void(const absl::Status& failure, const std::vector<RankState>& ranks)> on_failing;
  bool check_index = false;  // all ranks compare their indexes in every step, at some cost: for tests
};

// What the engine found in config.json, generation_config.json and tokenizer.json.
struct ModelInfo {
  std::string architecture;  // "clsa"
  std::string revision;      // hash of config and weight headers
  int32_t max_model_len;
  int32_t vocab_size;
  int32_t num_layers, hidden_size, sliding_window, index_top_k;
  std::vector<int32_t> eos_ids;
  bool has_tokenizer;
  SamplingParams defaults;  // seed and bias unused
  int32_t default_max_tokens;
};

struct Limits {
  size_t max_request_bytes;
  int32_t max_n = 16;
  int32_t max_stop_strings = 16;
  int32_t max_stop_string_bytes = 256;
  int32_t max_stop_ids = 64;
  int32_t max_logit_bias = 1024;
  int32_t max_top_logprobs = kMaxTopLogprobs;
  int32_t max_request_id_bytes = 128;
  int32_t max_sequences;
  int32_t max_step_tokens;
  Duration max_request_time;
  int32_t max_cache_salt_bytes = 128;
  int32_t max_queued_requests;
  int64_t max_queued_tokens;
  TenantLimits tenant;  // of a tenant that brings none of its own
  Duration max_token_gap;
};

// What --dry-run prints, and what the start-up log says.
struct MemoryPlan {
  std::string device;
  int threads;
  int ranks;
  int64_t weight_bytes;            // per rank
  int64_t activation_bytes;        // per rank
  int64_t cache_bytes;             // per rank
  int64_t bytes_per_cached_token;  // global group, per rank 0
  int64_t bytes_per_ring;          // window group, one sequence, per rank
  int64_t swap_bytes = 0;          // of the host's memory for preempted sequences, per rank
  int32_t global_blocks;
  int32_t max_sequences;
  int32_t snapshots;  // of one sequence's window, for the prefix cache
  int32_t SequencesThatFit(int32_t tokens) const;
};

// Counts without a word of their own are those since the start.
struct Load {
  int32_t running = 0;         // scheduled and not ended
  int32_t waiting = 0;         // not scheduled yet, tokenizing ones included
  int64_t waiting_tokens = 0;  // of their prompts
  int32_t free_blocks = 0;
  int32_t total_blocks = 0;
  int32_t free_slots = 0;  // of max_sequences: places of sequences, each with its windows
  int64_t steps = 0;
  int64_t generated_tokens = 0;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of prompts, found in the prefix cache
  int32_t cached_blocks = 0;  // now: of the free ones, those that hold something for later prompts
  int64_t preemptions = 0;
  // Requests by how they ended; those that were refused before they were accepted are not among them.
  int64_t completed = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;
  double scheduler_seconds_p99 = 0;  // of a step, processor time of the scheduler alone
};

// Since the start.
struct EngineStats {
  LatencyHistogram inter_token;  // between two steps that gave a request tokens
  LatencyHistogram plan;         // of the scheduler, for a step
  LatencyHistogram step;         // from submission, or the end of the step before it, to its result
  std::array<LatencyHistogram, kNumStepPhases> phases;  // of rank 0
  LatencyHistogram comm_wait;                           // of rank 0
};

// A live request, for those who look at a running engine.
struct RequestState {
  std::string id;
  std::string tenant;
  Duration age{};
  Phase phase{};
  int32_t queue_position = 0;  // 0 once it runs
  int32_t prompt_tokens = 0;
  int32_t prompt_tokens_done = 0;
  int32_t completion_tokens = 0;  // over all choices
  int32_t blocks = 0;
  int64_t unread_bytes = 0;  // that wait for its reader
};

struct EngineState {
  Load load;
  int64_t step = -1;  // the last that was planned
  bool draining = false;
  std::vector<RankState> ranks;
  std::vector<RequestState> requests;  // the oldest first
};

// What a part of start-up took, by name: "config" and "tokenizer"; "followers" and "connect", until those of
// other nodes had come and all ranks had met; "weights", "cache", "record" (on a GPU), "warm_up".
struct LoadTime {
  std::string phase;
  TimePoint begin{}, end{};
};

// Thread-safe. Owned by main; outlives every transport that was submitted to it.
class Engine {
 public:
  // Blocks while it loads. INVALID_ARGUMENT or NOT_FOUND name the file, key or flag that is wrong;
  // RESOURCE_EXHAUSTED says how many bytes were missing; UNIMPLEMENTED, UNAVAILABLE or FAILED_PRECONDITION
  // that this build, this machine or its GPU is not one that the device can be had on.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options);
  // As Create, but only plans: reads config and weight headers and allocates nothing.
  static absl::StatusOr<MemoryPlan> DryRun(const EngineOptions& options);
  virtual ~Engine() = default;

  // Takes the request. Errors that need no tokenizer come back at once (nothing was accepted, the outbox
  // stays empty): INVALID_ARGUMENT naming the field; ALREADY_EXISTS for a live id; UNIMPLEMENTED for text
  // without a tokenizer; RESOURCE_EXHAUSTED when the queue is full or the tenant over its limits;
  // DEADLINE_EXCEEDED for a deadline that has passed or cannot be met; UNAVAILABLE when draining or failed.
  // Everything later arrives in the outbox. Never blocks on the engine thread.
  virtual absl::Status Submit(Request request, std::shared_ptr<Outbox> outbox) = 0;

  // Ends a live request with `reason` (a non-OK status, usually CANCELLED). NOT_FOUND when no such request
  // lives. Its blocks are free within one step.
  virtual absl::Status Cancel(std::string_view tenant, std::string_view request_id, absl::Status reason) = 0;

  // Synchronous; may take as long as the text is long: call it off the transport's threads through RunText.
  virtual absl::StatusOr<std::vector<int32_t>> Tokenize(std::string_view text) const = 0;
  virtual absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& ids,
                                                 bool skip_special_tokens) const = 0;
  // Runs `work` on the text pool. RESOURCE_EXHAUSTED when the pool's queue is full.
  virtual absl::Status RunText(std::function<void()> work) = 0;

  virtual const ModelInfo& model() const = 0;
  virtual const Limits& limits() const = 0;
  virtual const MemoryPlan& memory() const = 0;
  virtual Load load() const = 0;
  virtual EngineStats stats() const { return {}; }
  // What start-up took, in order.
  virtual std::vector<LoadTime> load_times() const { return {}; }
  // What the engine did lately; null in engines that record nothing. Lives as long as the engine.
  virtual FlightRecorder* recorder() const { return nullptr; }
  // What each rank is doing. Also of an engine that hangs or has failed: waits for nothing.
  virtual std::vector<RankState> ranks() const { return {}; }
  // At most `max_requests` requests. DEADLINE_EXCEEDED when the engine thread has not answered by `deadline`.
  virtual absl::StatusOr<EngineState> DumpState(int32_t max_requests, TimePoint deadline) {
    return absl::UnimplementedError("this engine cannot tell");
  }

  // OK while the engine can serve; what ended it otherwise, with the evidence: for the log, not for callers.
  virtual absl::Status health() const = 0;

  // Refuses new requests with UNAVAILABLE and returns when the live ones have ended, or with
  // DEADLINE_EXCEEDED at `deadline` after ending the rest UNAVAILABLE.
  virtual absl::Status Drain(TimePoint deadline) = 0;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_ENGINE_H_
