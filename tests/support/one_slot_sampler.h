// Samplers, and the calls that tests of them make.
#ifndef YOIO_TESTS_SUPPORT_ONE_SLOT_SAMPLER_H_
#define YOIO_TESTS_SUPPORT_ONE_SLOT_SAMPLER_H_

#include <cmath>
#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"

namespace yoio::test {

inline SamplingParams Greedy() { return {.temperature = 0.0f, .logit_bias = {}}; }
inline SamplingParams Plain(uint64_t seed = 1) { return {.seed = seed, .logit_bias = {}}; }

inline SampleRow Row(int position, int sample_index = 0, int slot = 0) {
  return {.output_row = 0,
          .slot = slot,
          .sample_index = sample_index,
          .output_position = position,
          .logprob = false,
          .top_n = 0};
}

inline StepPlan PlanOf(std::vector<SampleRow> samples, std::vector<SlotAdmission> admitted = {}) {
  StepPlan plan;
  plan.samples = std::move(samples);
  plan.admitted = std::move(admitted);
  return plan;
}

// Logits of those probabilities, up to a constant.
inline std::vector<float> LogOf(std::vector<double> probabilities) {
  std::vector<float> logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3.0f);
  return logits;
}

inline Shard WholeVocabulary(int vocab) { return {.vocab = vocab, .vocab_begin = 0, .vocab_stride = vocab}; }

// A sampler and its device, for plans of any number of rows that fit into one tile.
class SamplerRunner {
 public:
  SamplerRunner(int vocab, int max_sequences, int max_output_rows = 8,
                kernels::DeviceKind device = kernels::DeviceKind::kCpu) {
    backend_ = Value(kernels::MakeBackend(device, 0));
    stream_ = Value(backend_->NewStream(1));
    sampler_ = Value(Sampler::Create({.backend = backend_.get(),
                                      .stream = stream_.get(),
                                      .comm = nullptr,
                                      .shard = WholeVocabulary(vocab),
                                      .vocab = vocab,
                                      .max_sequences = max_sequences,
                                      .max_output_rows = max_output_rows}));
    step_ = Value(sampler_->NewStep());
  }

  // `logits` is [output rows, vocab].
  StepResult Run(const StepPlan& plan, const std::vector<float>& logits, int num_rows) {
    const size_t logits_bytes = logits.size() * sizeof(float),
                 ids_bytes = plan.samples.size() * sizeof(int32_t);
    const kernels::Buffer device_logits = Value(backend_->Allocate(logits_bytes));
    const kernels::Buffer device_ids = Value(backend_->Allocate(ids_bytes));
    backend_->CopyToDevice(device_logits.data(), logits.data(), logits_bytes, *stream_);
    YOIO_CHECK(sampler_->Begin(plan, step_).ok());
    YOIO_CHECK(sampler_->Read(0, num_rows, device_logits.As<float>(), device_ids.As<int32_t>()).ok());
    YOIO_CHECK(sampler_->End(step_, device_ids.As<int32_t>()).ok());
    std::vector<int32_t> ids(plan.samples.size());
    backend_->CopyToHost(ids.data(), device_ids.data(), ids_bytes, *stream_);
    const absl::Status status = backend_->Synchronize(*stream_);
    YOIO_CHECK(status.ok()) << status.ToString();
    return Sampler::Take(plan, step_, ids.data());
  }

 private:
  template <typename T>
  static T Value(absl::StatusOr<T> value) {
    YOIO_CHECK(value.ok()) << value.status().ToString();
    return *std::move(value);
  }

  std::unique_ptr<kernels::Backend> backend_;
  std::unique_ptr<kernels::Stream> stream_;
  std::unique_ptr<Sampler> sampler_;
  Sampler::Step step_;
};

// On a CPU, with one slot in use.
class OneSlotSampler {
 public:
  OneSlotSampler(int vocab, const SamplingParams& sampling) : OneSlotSampler(vocab, Admission(sampling)) {}
  OneSlotSampler(int vocab, const SlotAdmission& admission) : admission_(admission), runner_(vocab, 2) {
    Run(PlanOf({}, {admission}), std::vector<float>(vocab));
  }

  static SlotAdmission Admission(const SamplingParams& sampling) {
    return {.slot = 0, .sampling = sampling, .stop_ids = {}, .prompt_ids = {}, .output_ids = {}};
  }

  // As if nothing had been drawn since the admission.
  int32_t Draw(const std::vector<float>& logits, int position = 0, int sample_index = 0) {
    const SampledToken token = Sample(logits, Row(position, sample_index));
    EXPECT_FALSE(token.invalid);
    return token.record.id;
  }

  SampledToken Sample(const std::vector<float>& logits, const SampleRow& row) {
    StepPlan plan = PlanOf({row});
    if (admission_.sampling.NeedsHistory()) plan.admitted = {admission_};
    return Run(plan, logits).samples[0];
  }

  // The next token of the sequence.
  int32_t Continue(const std::vector<float>& logits, int position) {
    return Run(PlanOf({Row(position)}), logits).samples[0].record.id;
  }

  TokenRecord Score(const std::vector<float>& logits, int32_t target, int top_n) {
    StepPlan plan;
    plan.scores = {{.output_row = 0, .target = target, .top_n = top_n}};
    return Run(plan, logits).scores[0];
  }

  // How often each token is drawn at positions 0 .. draws - 1.
  std::vector<int> Count(const std::vector<float>& logits, int draws) {
    std::vector<int> count(logits.size());
    for (int position = 0; position < draws; ++position) ++count[Draw(logits, position)];
    return count;
  }

  // The tokens that are drawn at all.
  std::set<int32_t> Support(const std::vector<float>& logits, int draws = 2000) {
    const std::vector<int> count = Count(logits, draws);
    std::set<int32_t> support;
    for (size_t id = 0; id < count.size(); ++id) {
      if (count[id] > 0) support.insert(static_cast<int32_t>(id));
    }
    return support;
  }

  StepResult Run(const StepPlan& plan, const std::vector<float>& logits) {
    return runner_.Run(plan, logits, 1);
  }

 private:
  const SlotAdmission admission_;
  SamplerRunner runner_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_ONE_SLOT_SAMPLER_H_
