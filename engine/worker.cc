#include "engine/worker.h"

#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace yoio {

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(const WorkerOptions& options) {
  auto worker = std::unique_ptr<Worker>(new Worker(options));
  const ModelConfig& config = *options.config;
  Communicator& comm = *options.comm;
  YOIO_ASSIGN_OR_RETURN(const Shard shard,
                        Shard::Make(config, comm.rank(), comm.world(), options.index_by_rows));
  YOIO_ASSIGN_OR_RETURN(worker->stream_, options.backend->NewStream(options.threads));
  if (options.checkpoint != nullptr) {
    YOIO_ASSIGN_OR_RETURN(worker->weights_,
                          Weights::Load(config, shard, *options.checkpoint, *options.backend,
                                        *worker->stream_, options.progress));
  } else {
    YOIO_ASSIGN_OR_RETURN(worker->weights_,
                          Weights::Dummy(config, shard, options.dummy_seed, *options.backend,
                                         *worker->stream_, options.progress));
  }
  YOIO_ASSIGN_OR_RETURN(worker->cache_,
                        KvCache::Create(config, shard, options.sizing.cache, *options.backend));
  YOIO_ASSIGN_OR_RETURN(worker->seconds_per_swapped_block_,
                        worker->cache_->MeasureSwap(*options.backend, *worker->stream_));
  YOIO_ASSIGN_OR_RETURN(worker->sampler_,
                        Sampler::Create({.backend = options.backend,
                                         .stream = worker->stream_.get(),
                                         .comm = options.comm,
                                         .shard = shard,
                                         .vocab = config.vocab_size,
                                         .max_sequences = options.sizing.cache.max_sequences,
                                         .max_output_rows = options.sizing.limits.max_output_rows}));
  if (options.check_index && !config.plan.indexers.empty()) {
    YOIO_ASSIGN_OR_RETURN(worker->index_check_, IndexCheck::Create({.backend = options.backend,
                                                                    .stream = worker->stream_.get(),
                                                                    .comm = options.comm}));
  }
  YOIO_RETURN_IF_ERROR(worker->AllocateSteps());
  worker->model_ = std::make_unique<Model>(ModelParts{.config = &config,
                                                      .shard = shard,
                                                      .weights = worker->weights_.get(),
                                                      .cache = worker->cache_.get(),
                                                      .backend = options.backend,
                                                      .comm = options.comm,
                                                      .stream = worker->stream_.get(),
                                                      .previous_samples = worker->samples_.As<int32_t>()},
                                           options.sizing.limits);
  YOIO_RETURN_IF_ERROR(worker->model_->Prepare());
  return worker;
}

// Every choice of every request has a slot of its own, so slots bound the samples of a step.
absl::Status Worker::AllocateSteps() {
  kernels::Backend& backend = *options_.backend;
  const size_t samples = options_.sizing.cache.max_sequences;
  YOIO_ASSIGN_OR_RETURN(samples_, backend.Allocate(samples * sizeof(int32_t)));
  steps_.resize(options_.sizing.limits.depth);
  for (Step& step : steps_) {
    YOIO_ASSIGN_OR_RETURN(step.ids, backend.AllocateHost(samples * sizeof(int32_t)));
    YOIO_ASSIGN_OR_RETURN(step.sampling, sampler_->NewStep());
    YOIO_ASSIGN_OR_RETURN(step.end, backend.NewEvent());
  }
  return absl::OkStatus();
}

// Ends the group when `status` is an error.
absl::Status Worker::Fatal(absl::Status status) {
  if (!status.ok()) options_.comm->Abort(status);
  return status;
}

absl::Status Worker::Begin(std::shared_ptr<const StepPlan> plan) {
  YOIO_CHECK_LT(under_way_.size(), steps_.size());
  Step& step = steps_[next_];
  next_ = (next_ + 1) % steps_.size();
  step.plan = std::move(plan);
  under_way_.push_back(&step);
  return Fatal(Queue(step));
}

absl::Status Worker::Queue(Step& step) {
  const StepPlan& plan = *step.plan;
  kernels::Backend& backend = *options_.backend;
  YOIO_RETURN_IF_ERROR(sampler_->Begin(plan, step.sampling));
  YOIO_RETURN_IF_ERROR(model_->Forward(plan, [&](int first_row, int num_rows, const float* logits) {
    return sampler_->Read(first_row, num_rows, logits, samples_.As<int32_t>());
  }));
  if (index_check_ != nullptr && !plan.output_tokens.empty()) {
    const int num_rows = static_cast<int>(plan.output_tokens.size());
    YOIO_RETURN_IF_ERROR(index_check_->Run(plan.step, model_->last_index(), num_rows));
  }
  // Every rank learns what was drawn: the next plan may name it by row.
  YOIO_RETURN_IF_ERROR(sampler_->End(step.sampling, samples_.As<int32_t>()));
  const size_t bytes = plan.samples.size() * sizeof(int32_t);
  backend.CopyToHost(step.ids.data(), samples_.data(), bytes, *stream_);
  backend.Record(*step.end, *stream_);
  return absl::OkStatus();
}

absl::StatusOr<bool> Worker::Ended() {
  if (under_way_.empty()) return false;
  absl::StatusOr<bool> passed = options_.backend->Passed(*under_way_.front()->end);
  if (!passed.ok()) return Fatal(passed.status());
  return passed;
}

StepResult Worker::Take() {
  Step& step = *under_way_.front();
  under_way_.pop_front();
  if (options_.comm->rank() != 0) return {.step = step.plan->step, .samples = {}, .scores = {}};
  return Sampler::Take(*step.plan, step.sampling, step.ids.As<int32_t>());
}

}  // namespace yoio
