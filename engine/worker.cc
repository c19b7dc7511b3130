#include "engine/worker.h"

#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace yoio {

namespace {

StepMarks::Times* TimesIn(const kernels::Buffer& outcome) { return outcome.As<StepMarks::Times>(); }
int32_t* IdsIn(const kernels::Buffer& outcome) {
  return reinterpret_cast<int32_t*>(outcome.As<StepMarks::Times>() + 1);
}
// Of what a step with so many samples leaves.
size_t OutcomeBytes(size_t samples) { return sizeof(StepMarks::Times) + samples * sizeof(int32_t); }

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(const WorkerOptions& options) {
  auto worker = std::unique_ptr<Worker>(new Worker(options));
  YOIO_ASSIGN_OR_RETURN(const Shard shard, Shard::Make(*options.config, options.comm->rank(),
                                                       options.comm->world(), options.index_by_rows));
  YOIO_ASSIGN_OR_RETURN(worker->stream_, options.backend->NewStream(options.threads));
  YOIO_RETURN_IF_ERROR(worker->Load(shard));
  worker->NoteLoad("weights");
  YOIO_RETURN_IF_ERROR(worker->AllocateCache(shard));
  YOIO_RETURN_IF_ERROR(worker->AllocateSteps());
  worker->NoteLoad("cache");
  YOIO_RETURN_IF_ERROR(worker->PrepareModel(shard));
  if (options.backend->captures()) worker->NoteLoad("record");
  options.rank_progress->TakeCommWait();  // of no step
  return worker;
}

absl::Status Worker::Load(const Shard& shard) {
  const ModelConfig& config = *options_.config;
  if (options_.checkpoint != nullptr) {
    YOIO_ASSIGN_OR_RETURN(weights_, Weights::Load(config, shard, *options_.checkpoint, *options_.backend,
                                                  *stream_, options_.progress));
  } else {
    YOIO_ASSIGN_OR_RETURN(weights_, Weights::Dummy(config, shard, options_.dummy_seed, *options_.backend,
                                                   *stream_, options_.progress));
  }
  return absl::OkStatus();
}

absl::Status Worker::AllocateCache(const Shard& shard) {
  YOIO_ASSIGN_OR_RETURN(cache_,
                        KvCache::Create(*options_.config, shard, options_.sizing.cache, *options_.backend));
  YOIO_ASSIGN_OR_RETURN(seconds_per_swapped_block_, cache_->MeasureSwap(*options_.backend, *stream_));
  YOIO_ASSIGN_OR_RETURN(sampler_,
                        Sampler::Create({.backend = options_.backend,
                                         .stream = stream_.get(),
                                         .comm = options_.comm,
                                         .shard = shard,
                                         .vocab = options_.config->vocab_size,
                                         .max_sequences = options_.sizing.cache.max_sequences,
                                         .max_output_rows = options_.sizing.limits.max_output_rows}));
  if (options_.check_index && !options_.config->plan.indexers.empty()) {
    YOIO_ASSIGN_OR_RETURN(
        index_check_,
        IndexCheck::Create({.backend = options_.backend, .stream = stream_.get(), .comm = options_.comm}));
  }
  return absl::OkStatus();
}

// Every choice of every request has a slot of its own, so slots bound the samples of a step.
absl::Status Worker::AllocateSteps() {
  kernels::Backend& backend = *options_.backend;
  const size_t bytes = OutcomeBytes(options_.sizing.cache.max_sequences);
  YOIO_ASSIGN_OR_RETURN(outcome_, backend.Allocate(bytes));
  marks_ =
      std::make_unique<StepMarks>(backend, *stream_, TimesIn(outcome_), options_.rank_progress->phase_word());
  options_.comm->MeasureWaits(&TimesIn(outcome_)->comm);
  steps_.resize(options_.sizing.limits.depth);
  for (Step& step : steps_) {
    YOIO_ASSIGN_OR_RETURN(step.outcome, backend.AllocateHost(bytes));
    YOIO_ASSIGN_OR_RETURN(step.sampling, sampler_->NewStep());
    YOIO_ASSIGN_OR_RETURN(step.end, backend.NewEvent());
  }
  return absl::OkStatus();
}

absl::Status Worker::PrepareModel(const Shard& shard) {
  model_ = std::make_unique<Model>(ModelParts{.config = options_.config,
                                              .shard = shard,
                                              .weights = weights_.get(),
                                              .cache = cache_.get(),
                                              .backend = options_.backend,
                                              .comm = options_.comm,
                                              .stream = stream_.get(),
                                              .previous_samples = IdsIn(outcome_),
                                              .marks = marks_.get()},
                                   options_.sizing.limits);
  return model_->Prepare();
}

void Worker::NoteLoad(const char* phase) {
  const TimePoint now = Clock::now();
  load_times_.push_back({phase, load_noted_, now});
  load_noted_ = now;
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
  // A device is at the oldest step; a host computes this one now.
  const bool at_once = !options_.backend->captures();
  options_.rank_progress->Begun((at_once ? step : *under_way_.front()).plan->step);
  return Fatal(Queue(step));
}

absl::Status Worker::Queue(Step& step) {
  const StepPlan& plan = *step.plan;
  kernels::Backend& backend = *options_.backend;
  marks_->Begin();
  YOIO_RETURN_IF_ERROR(Run(plan, step.sampling));
  marks_->End(plan.output_tokens.empty() ? StepPhase::kSelfDecoder : StepPhase::kSampling);
  backend.CopyToHost(step.outcome.data(), outcome_.data(), OutcomeBytes(plan.samples.size()), *stream_);
  backend.Record(*step.end, *stream_);
  step.comm_wait = options_.rank_progress->TakeCommWait();
  step.recorded = model_->recorded();
  return absl::OkStatus();
}

absl::Status Worker::Run(const StepPlan& plan, Sampler::Step& sampling) {
  int32_t* const ids = IdsIn(outcome_);
  YOIO_RETURN_IF_ERROR(sampler_->Begin(plan, sampling));
  YOIO_RETURN_IF_ERROR(model_->Forward(plan, [&](int first_row, int num_rows, const float* logits) {
    return sampler_->Read(first_row, num_rows, logits, ids);
  }));
  if (index_check_ != nullptr && !plan.output_tokens.empty()) {
    const int num_rows = static_cast<int>(plan.output_tokens.size());
    YOIO_RETURN_IF_ERROR(index_check_->Run(plan.step, model_->last_index(), num_rows));
  }
  // Every rank learns what was drawn: the next plan may name it by row.
  return sampler_->End(sampling, ids);
}

absl::StatusOr<bool> Worker::Ended() {
  if (under_way_.empty()) return false;
  absl::StatusOr<bool> passed = options_.backend->Passed(*under_way_.front()->end);
  if (!passed.ok()) return Fatal(passed.status());
  return passed;
}

Worker::Outcome Worker::Take() {
  Step& step = *under_way_.front();
  under_way_.pop_front();
  if (!under_way_.empty() && options_.backend->captures()) {
    options_.rank_progress->Begun(under_way_.front()->plan->step);
  }
  Outcome outcome{.result = {.step = step.plan->step, .samples = {}, .scores = {}},
                  .times = StepMarks::Read(*TimesIn(step.outcome))};
  outcome.times.comm_wait += step.comm_wait;
  outcome.times.recorded = step.recorded;
  if (options_.comm->rank() == 0) {
    outcome.result = Sampler::Take(*step.plan, step.sampling, IdsIn(step.outcome));
  }
  return outcome;
}

}  // namespace yoio
