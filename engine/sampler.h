// Draws tokens from logits as requests ask for: the same token for the same (logits, parameters, seed,
// position) on every device, batch and world size.
#ifndef YOIO_ENGINE_SAMPLER_H_
#define YOIO_ENGINE_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/step_plan.h"
#include "kernels/backend.h"

namespace yoio {

// In order (docs/architecture.md, "Sampling"): log-probabilities from the raw logits; repetition penalty over
// prompt and output (divide positive, multiply negative); frequency and presence penalties over output; bias;
// ban of stop ids below min_tokens; then the draw of kernels/draw.h: temperature; top-k, top-p, min-p, each
// on the renormalised rest; argmax(logit / T + Gumbel noise), the noise by Philox4x32-10 keyed by (seed,
// sample index, output position, token id). T = 0 is greedy, ties to the lowest id.
//
// What that leaves open:
// - A ban is a logit of minus infinity. When all are banned the lowest id is drawn, and log-probabilities are
//   minus infinity.
// - NaN in a raw logit makes the sample invalid, and the log-probability of a score NaN without alternatives.
//   NaN made by a bias (of opposite infinities) is a ban.
//
// All of it is queued on the device, the history of penalties included: a step never waits for what an
// earlier one has drawn. Lives on rank 0 and is used by its thread. For each step, in order: Begin, Read for
// every tile of logits, End; and Take once the stream has passed what End queued.
class Sampler {
 public:
  // Everything outlives the sampler.
  struct Parts {
    kernels::Backend* backend;
    kernels::Stream* stream;
    int vocab;
    int max_sequences;
    int max_output_rows;
  };
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(const Parts& parts);
  // Of device memory.
  static int64_t Bytes(int vocab, int max_sequences, int max_output_rows);

  // The host memory of one step under way.
  struct Step {
    kernels::Buffer input;     // what the device is told
    kernels::Buffer logprobs;  // as LogprobsArgs::out: rows of samples, then of scores
  };
  absl::StatusOr<Step> NewStep();

  // Follows the plan's releases and admissions and tells the device what to do with its samples and scores.
  // Every id of an admission lies inside the vocabulary. A slot may be admitted again without a release. The
  // plan stays where it is until End. Waits and allocates only when there is more to tell than ever before:
  // long prompts with penalties, many biases.
  absl::Status Begin(const StepPlan& plan, Step& step);
  // Queues what reads the output rows from `first_row` on: `logits` is device memory [num_rows, vocab], and
  // what sample i draws goes to ids[i], device memory [samples].
  void Read(int first_row, int num_rows, const float* logits, int32_t* ids);
  // Queues the way of the log-probabilities to the host.
  void End(Step& step);
  // What `plan` has drawn and scored; `ids` is host memory [samples].
  static StepResult Take(const StepPlan& plan, const Step& step, const int32_t* ids);

 private:
  struct Slot {
    SamplingParams sampling;
    std::vector<int32_t> stop_ids;
    int32_t min_tokens = 0;
  };
  // A slot's history begins anew, with a range of updates_.
  struct Reset {
    int32_t slot;
    size_t begin;
    size_t count;
  };

  explicit Sampler(const Parts& parts);
  void Admit(const SlotAdmission& admission);
  void PlanHistory(const SlotAdmission& admission);
  void PlanSample(const SampleRow& row, int index);
  absl::Status Upload(Step& step);
  void ResetHistories();
  void Draw(int begin, int end, const float* logits, int32_t* ids);
  void ReadLogprobs(int begin, int end, const float* logits, const int32_t* drawn);

  const Parts parts_;
  std::vector<Slot> slots_;
  kernels::Buffer history_;   // [max_sequences, vocab]
  kernels::Buffer adjusted_;  // [at most kLogitsTile, vocab]
  kernels::Buffer logprobs_;  // [max_sequences + max_output_rows, 1 + kMaxTopLogprobs]
  kernels::Buffer input_;     // what the step is told

  // The step between Begin and End, on the host and, in input_, on the device.
  template <typename T>
  struct Told {
    std::vector<T> host;
    T* device = nullptr;
  };
  const StepPlan* plan_ = nullptr;
  Told<kernels::DrawRow> draws_;      // as plan->samples
  Told<kernels::AdjustRow> adjusts_;  // as plan->samples
  Told<kernels::LogprobRow> wanted_;  // as plan->samples, then plan->scores
  Told<kernels::LogitBias> biases_;
  Told<int32_t> bans_;
  Told<kernels::WordUpdate> updates_;
  std::vector<Reset> resets_;
  std::vector<uint32_t> words_;  // [vocab], zeros between admissions
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SAMPLER_H_
