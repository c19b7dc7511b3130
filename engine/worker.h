// One rank: its weights, its share of the cache, its model and its sampler.
#ifndef YOIO_ENGINE_WORKER_H_
#define YOIO_ENGINE_WORKER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/comm/communicator.h"
#include "engine/index_check.h"
#include "engine/memory_plan.h"
#include "engine/model/model.h"
#include "engine/model/step_marks.h"
#include "engine/rank_progress.h"
#include "engine/sampler.h"
#include "engine/step_plan.h"

namespace yoio {

struct WorkerOptions {
  const ModelConfig* config = nullptr;     // outlives the worker
  const Checkpoint* checkpoint = nullptr;  // null: dummy weights; needed only during Create
  uint64_t dummy_seed = 1;
  Sizing sizing;
  kernels::Backend* backend = nullptr;    // outlives the worker
  Communicator* comm = nullptr;           // this rank's; outlives the worker
  int threads = 1;                        // this rank's share
  bool index_by_rows = false;             // as --index-sharding says
  bool check_index = false;               // a step fails, INTERNAL, when the ranks' indexes differ
  Weights::Progress progress = nullptr;   // called on the rank's thread
  RankProgress* rank_progress = nullptr;  // this rank's; outlives the worker
};

// Created, used and destroyed on the rank's own thread. Steps run in the order of Begin, and at most
// sizing.limits.depth of them may be under way. Any error is the end of the group: the communicator has been
// aborted with it.
class Worker {
 public:
  static absl::StatusOr<std::unique_ptr<Worker>> Create(const WorkerOptions& options);

  // Queues a step. Returns before a device has run it.
  absl::Status Begin(std::shared_ptr<const StepPlan> plan);
  // Whether the oldest step under way has ended. Never blocks.
  absl::StatusOr<bool> Ended();
  struct Outcome {
    StepResult result;  // on rank 0 what was drawn and scored, on the others only the step's number
    StepTimes times;
  };
  // Takes the oldest step, which has ended.
  Outcome Take();

  const Model& model() const { return *model_; }
  // What Create has spent its time on, in order.
  const std::vector<LoadTime>& load_times() const { return load_times_; }
  // What one block takes to the host's memory and back; 0 without room there.
  double seconds_per_swapped_block() const { return seconds_per_swapped_block_; }

 private:
  // A step under way and the host memory it uses.
  struct Step {
    std::shared_ptr<const StepPlan> plan;
    kernels::Buffer outcome;  // as outcome_
    Sampler::Step sampling;
    Duration comm_wait{};
    bool recorded = false;
    std::unique_ptr<kernels::Event> end;
  };

  explicit Worker(const WorkerOptions& options) : options_(options) {}
  absl::Status Load(const Shard& shard);
  absl::Status AllocateCache(const Shard& shard);
  absl::Status AllocateSteps();
  absl::Status PrepareModel(const Shard& shard);
  // What has passed since the note before was for `phase`.
  void NoteLoad(const char* phase);
  absl::Status Queue(Step& step);
  absl::Status Run(const StepPlan& plan, Sampler::Step& sampling);
  absl::Status Fatal(absl::Status status);

  const WorkerOptions options_;
  std::unique_ptr<kernels::Stream> stream_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<IndexCheck> index_check_;  // with check_index, where the model has an index
  double seconds_per_swapped_block_ = 0;
  TimePoint load_noted_ = Clock::now();
  std::vector<LoadTime> load_times_;
  // Device: what the last step leaves, and one copy takes to the host. StepMarks::Times, then the ids that it
  // has drawn, [max samples] int32, on every rank.
  kernels::Buffer outcome_;
  std::unique_ptr<StepMarks> marks_;
  std::vector<Step> steps_;      // [depth]
  std::deque<Step*> under_way_;  // oldest first
  size_t next_ = 0;              // which of steps_ Begin takes
};

}  // namespace yoio

#endif  // YOIO_ENGINE_WORKER_H_
