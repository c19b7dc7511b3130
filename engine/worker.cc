#include "engine/worker.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/check.h"
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
    YOIO_ASSIGN_OR_RETURN(worker->weights_,
                          Weights::Dummy(config, shard, options.dummy_seed, *options.backend,
                                         *worker->stream_, options.progress));
  }
  YOIO_ASSIGN_OR_RETURN(worker->cache_,
                        KvCache::Create(config, shard, options.sizing.cache, *options.backend));
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
  if (shard.rank == 0) {
    worker->sampler_ = std::make_unique<Sampler>(config.vocab_size, options.sizing.cache.max_sequences);
    worker->scratch_ = worker->sampler_->NewScratch();
  }
  return worker;
}

// Every choice of every request has a slot of its own, so slots bound the samples of a step.
absl::Status Worker::AllocateSteps() {
  kernels::Backend& backend = *options_.backend;
  const size_t samples = options_.sizing.cache.max_sequences;
  YOIO_ASSIGN_OR_RETURN(draws_, backend.Allocate(samples * sizeof(kernels::DrawRow)));
  YOIO_ASSIGN_OR_RETURN(samples_, backend.Allocate(samples * sizeof(int32_t)));
  YOIO_ASSIGN_OR_RETURN(host_logits_, backend.AllocateHost(options_.config->vocab_size * sizeof(float)));
  steps_.resize(options_.sizing.limits.depth);
  for (Step& step : steps_) {
    YOIO_ASSIGN_OR_RETURN(step.draws, backend.AllocateHost(samples * sizeof(kernels::DrawRow)));
    YOIO_ASSIGN_OR_RETURN(step.ids, backend.AllocateHost(samples * sizeof(int32_t)));
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
  step.samples.assign(step.plan->samples.size(), {});
  step.sampled_on_host.assign(step.plan->samples.size(), false);
  step.scores.clear();
  under_way_.push_back(&step);
  return Fatal(Queue(step));
}

absl::Status Worker::Queue(Step& step) {
  const StepPlan& plan = *step.plan;
  kernels::Backend& backend = *options_.backend;
  if (sampler_ != nullptr) {
    for (const int32_t slot : plan.released_slots) sampler_->Release(slot);
    for (const SlotAdmission& admission : plan.admitted) sampler_->Admit(admission);
    PlanDraws(step);
  }
  YOIO_RETURN_IF_ERROR(model_->Forward(plan, [&](int first_row, int num_rows, const float* logits) {
    return ReadTile(step, first_row, num_rows, logits);
  }));
  // Every rank learns what was drawn: the next plan may name it by row.
  const size_t bytes = plan.samples.size() * sizeof(int32_t);
  YOIO_RETURN_IF_ERROR(options_.comm->Broadcast({samples_.As<std::byte>(), bytes}, /*root=*/0, *stream_));
  backend.CopyToHost(step.ids.data(), samples_.data(), bytes, *stream_);
  backend.Record(*step.end, *stream_);
  return absl::OkStatus();
}

// Tells the device how to draw each sample. Rows that need more than a draw are drawn too, and replaced by
// what the host draws: they are few, and the rest stays one operation.
void Worker::PlanDraws(Step& step) {
  const StepPlan& plan = *step.plan;
  auto* draws = step.draws.As<kernels::DrawRow>();
  for (size_t i = 0; i < plan.samples.size(); ++i) {
    draws[i] = sampler_->RowFor(plan.samples[i]);
    draws[i].logits_row = plan.samples[i].output_row % kLogitsTile;
  }
  options_.backend->CopyToDevice(draws_.data(), draws, plan.samples.size() * sizeof(kernels::DrawRow),
                                 *stream_);
}

// Samples and scores name their output rows in ascending order, as tiles of logits come.
absl::Status Worker::ReadTile(Step& step, int first_row, int num_rows, const float* logits) {
  const StepPlan& plan = *step.plan;
  const auto before = [](const auto& row, int32_t output_row) { return row.output_row < output_row; };
  const auto range = [&](const auto& rows) {
    const auto begin = std::lower_bound(rows.begin(), rows.end(), first_row, before);
    const auto end = std::lower_bound(begin, rows.end(), first_row + num_rows, before);
    return std::pair(begin - rows.begin(), end - rows.begin());
  };
  const auto [begin, end] = range(plan.samples);
  if (begin < end) {
    options_.backend->Draw({.logits = logits,
                            .logits_stride = options_.config->vocab_size,
                            .vocab = options_.config->vocab_size,
                            .rows = draws_.As<kernels::DrawRow>() + begin,
                            .num_rows = static_cast<int>(end - begin),
                            .ids = samples_.As<int32_t>() + begin},
                           *stream_);
  }
  for (auto i = begin; i < end; ++i) {
    if (sampler_->IsPlain(plan.samples[i])) continue;
    YOIO_RETURN_IF_ERROR(SampleOnHost(step, i, first_row, logits));
  }
  const auto [score_begin, score_end] = range(plan.scores);
  for (auto i = score_begin; i < score_end; ++i) {
    YOIO_ASSIGN_OR_RETURN(const float* row, LogitsOnHost(logits, plan.scores[i].output_row - first_row));
    step.scores.push_back(sampler_->Score(plan.scores[i], row, scratch_));
  }
  return absl::OkStatus();
}

absl::Status Worker::SampleOnHost(Step& step, size_t sample, int first_row, const float* logits) {
  const SampleRow& row = step.plan->samples[sample];
  YOIO_ASSIGN_OR_RETURN(const float* host, LogitsOnHost(logits, row.output_row - first_row));
  step.samples[sample] = sampler_->Sample(row, host, scratch_);
  step.sampled_on_host[sample] = true;
  const int32_t id = step.samples[sample].record.id;
  sampler_->Record(row.slot, id);
  options_.backend->CopyToDevice(samples_.As<int32_t>() + sample, &id, sizeof(id), *stream_);
  return absl::OkStatus();
}

// One row of logits, valid until the next call. Waits for the device.
absl::StatusOr<const float*> Worker::LogitsOnHost(const float* logits, int row) {
  const int64_t vocab = options_.config->vocab_size;
  options_.backend->CopyToHost(host_logits_.data(), logits + row * vocab, vocab * sizeof(float), *stream_);
  YOIO_RETURN_IF_ERROR(options_.backend->Synchronize(*stream_));
  return host_logits_.As<float>();
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
  StepResult result{.step = step.plan->step, .samples = {}, .scores = std::move(step.scores)};
  if (sampler_ == nullptr) return result;
  result.samples = std::move(step.samples);
  const int32_t* ids = step.ids.As<int32_t>();
  for (size_t i = 0; i < result.samples.size(); ++i) {
    if (step.sampled_on_host[i]) continue;
    result.samples[i].record.id = std::max(ids[i], 0);
    result.samples[i].invalid = ids[i] < 0;
  }
  return result;
}

}  // namespace yoio
