#include "engine/worker.h"

#include <span>

#include "base/status.h"

namespace yoio {

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(const WorkerOptions& options) {
  auto worker = std::unique_ptr<Worker>(new Worker(options));
  const ModelConfig& config = *options.config;
  Communicator& comm = *options.comm;
  YOIO_ASSIGN_OR_RETURN(const Shard shard, Shard::Make(config, comm.rank(), comm.world()));
  YOIO_ASSIGN_OR_RETURN(worker->stream_, options.backend->NewStream(options.threads));
  if (options.checkpoint != nullptr) {
    YOIO_ASSIGN_OR_RETURN(worker->weights_,
                          Weights::Load(config, shard, *options.checkpoint, *options.backend,
                                        *worker->stream_, options.progress));
  } else {
    YOIO_ASSIGN_OR_RETURN(worker->weights_, Weights::Dummy(config, shard, options.dummy_seed,
                                                           *options.backend, *worker->stream_));
  }
  YOIO_ASSIGN_OR_RETURN(worker->cache_,
                        KvCache::Create(config, shard, options.sizing.cache, *options.backend));
  worker->model_ = std::make_unique<Model>(ModelParts{.config = &config,
                                                      .shard = shard,
                                                      .weights = worker->weights_.get(),
                                                      .cache = worker->cache_.get(),
                                                      .backend = options.backend,
                                                      .comm = options.comm,
                                                      .stream = worker->stream_.get()},
                                           options.sizing.limits);
  YOIO_RETURN_IF_ERROR(worker->model_->Allocate());
  if (shard.rank == 0) {
    worker->sampler_ = std::make_unique<Sampler>(config.vocab_size, options.sizing.cache.max_sequences);
    worker->scratch_ = worker->sampler_->NewScratch();
  }
  return worker;
}

absl::StatusOr<StepResult> Worker::Run(const StepPlan& plan) {
  StepResult result;
  if (const absl::Status status = RunStep(plan, result); !status.ok()) {
    options_.comm->Abort(status);
    return status;
  }
  return result;
}

absl::Status Worker::RunStep(const StepPlan& plan, StepResult& result) {
  result.step = plan.step;
  if (sampler_ != nullptr) {
    for (const int32_t slot : plan.released_slots) sampler_->Release(slot);
    for (const SlotAdmission& admission : plan.admitted) sampler_->Admit(admission);
  }
  // Samples and scores name their output rows in ascending order, as tiles of logits come.
  const auto read_tile = [&](int first_row, int num_rows, const float* logits) {
    const auto row_of = [&](int32_t output_row) {
      return logits + static_cast<int64_t>(output_row - first_row) * options_.config->vocab_size;
    };
    const int32_t end = first_row + num_rows;
    while (result.scores.size() < plan.scores.size() && plan.scores[result.scores.size()].output_row < end) {
      const ScoreRow& row = plan.scores[result.scores.size()];
      result.scores.push_back(sampler_->Score(row, row_of(row.output_row), scratch_));
    }
    while (result.samples.size() < plan.samples.size() &&
           plan.samples[result.samples.size()].output_row < end) {
      const SampleRow& row = plan.samples[result.samples.size()];
      result.samples.push_back(sampler_->Sample(row, row_of(row.output_row), scratch_));
      sampler_->Record(row.slot, result.samples.back().record.id);
    }
  };
  YOIO_RETURN_IF_ERROR(model_->Forward(plan, samples_, read_tile));

  // Every rank learns what was drawn: the next plan may name it by row.
  samples_.assign(plan.samples.size(), 0);
  for (size_t i = 0; i < result.samples.size(); ++i) samples_[i] = result.samples[i].record.id;
  return options_.comm->Broadcast(std::as_writable_bytes(std::span(samples_)), /*root=*/0, *stream_);
}

}  // namespace yoio
