// One rank: its weights, its share of the cache, its model, and on rank 0 the sampler.
#ifndef YOIO_ENGINE_WORKER_H_
#define YOIO_ENGINE_WORKER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/comm/communicator.h"
#include "engine/memory_plan.h"
#include "engine/model/model.h"
#include "engine/sampler.h"
#include "engine/step_plan.h"

namespace yoio {

struct WorkerOptions {
  const ModelConfig* config = nullptr;     // outlives the worker
  const Checkpoint* checkpoint = nullptr;  // null: dummy weights; needed only during Create
  uint64_t dummy_seed = 1;
  Sizing sizing;
  kernels::Backend* backend = nullptr;   // outlives the worker
  Communicator* comm = nullptr;          // this rank's; outlives the worker
  int threads = 1;                       // this rank's share
  Weights::Progress progress = nullptr;  // called on the rank's thread
};

// Created, used and destroyed on the rank's own thread.
class Worker {
 public:
  static absl::StatusOr<std::unique_ptr<Worker>> Create(const WorkerOptions& options);

  // Runs one step. Rank 0 returns what was drawn and scored, the others an empty result. Any error is the end
  // of the group: the communicator has been aborted with it.
  absl::StatusOr<StepResult> Run(const StepPlan& plan);

  const Model& model() const { return *model_; }

 private:
  explicit Worker(const WorkerOptions& options) : options_(options) {}
  absl::Status RunStep(const StepPlan& plan, StepResult& result);

  const WorkerOptions options_;
  std::unique_ptr<kernels::Stream> stream_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Sampler> sampler_;  // rank 0
  Sampler::Scratch scratch_;
  std::vector<int32_t> samples_;  // drawn by the last step, on every rank
};

}  // namespace yoio

#endif  // YOIO_ENGINE_WORKER_H_
