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
#include "engine/comm/communicator.h"
#include "engine/model/weights.h"
#include "engine/row_collector.h"
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
// Every rank has a sampler, for its part of the vocabulary: its history, penalties, biases and bans. Greedy
// and plain-temperature rows are drawn by all ranks alike, from the candidate of each part. Rows with top-k,
// top-p or min-p, and rows whose log-probabilities are wanted, are collected on rank 0, which draws the
// former and tells the others. All ranks see the same plans, and so reach the same collectives.
//
// All of it is queued on the device, the history of penalties included: a step never waits for what an
// earlier one has drawn. Used by the rank's thread. For each step, in order: Begin, Read for every tile of
// logits, End; and on rank 0 Take once the stream has passed what End queued. An error is the group's.
class Sampler {
 public:
  // Everything outlives the sampler.
  struct Parts {
    kernels::Backend* backend;
    kernels::Stream* stream;
    Communicator* comm;  // null in a world of one
    Shard shard;
    int vocab;  // of all ranks
    int max_sequences;
    int max_output_rows;
  };
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(const Parts& parts);
  // Of device memory, on that rank.
  static int64_t Bytes(const Shard& shard, int vocab, int max_sequences, int max_output_rows);

  // The host memory of one step under way.
  struct Step {
    kernels::Buffer input;     // what the device is told
    kernels::Buffer logprobs;  // rank 0; as LogprobsArgs::out: rows of samples, then of scores
  };
  absl::StatusOr<Step> NewStep();

  // Follows the plan's releases and admissions and tells the device what to do with its samples and scores.
  // Every id of an admission lies inside the vocabulary. A slot may be admitted again without a release. The
  // plan stays where it is until End. Waits and allocates only when there is more to tell than ever before:
  // long prompts with penalties, many biases.
  absl::Status Begin(const StepPlan& plan, Step& step);
  // Queues what reads the output rows from `first_row` on: `logits` is this rank's part of them, device
  // memory [num_rows, shard.vocab_stride], and what sample i draws goes to ids[i], device memory [samples].
  absl::Status Read(int first_row, int num_rows, const float* logits, int32_t* ids);
  // Queues what makes all of `ids` known to every rank, and the way of the log-probabilities to the host.
  absl::Status End(Step& step, int32_t* ids);
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
  template <typename T>
  struct Told {  // what the device is told
    std::vector<T> host;
    T* device = nullptr;  // in input_
  };
  // Rows to collect.
  struct RowList {
    std::vector<int32_t> keys;  // ascending: what they are found by
    Told<int32_t> rows;         // as keys
  };

  explicit Sampler(const Parts& parts);
  void Admit(const SlotAdmission& admission);
  void PlanHistory(const SlotAdmission& admission);
  void PlanSample(const SampleRow& row, int index);
  void PlanDraw(const SampleRow& row, int index, const kernels::DrawRow& draw);
  void PlanRawRows();
  absl::Status Upload(Step& step);
  void ResetHistories();

  bool several() const { return parts_.shard.world > 1; }
  absl::Status Draw(int begin, int end, const float* logits, const float* whole, int32_t* ids);
  void Adjust(int begin, int end, const float* logits);
  absl::Status DrawFromParts(int begin, int end, const float* logits, int32_t* ids);
  void DrawFromWhole(int begin, int end, const float* logits, const float* adjusted, int32_t* ids);
  void ReadLogprobs(int begin, int end, const float* logits, const int32_t* drawn);
  absl::Status Collect(const RowList& list, int begin, int end, const float* mine,
                       const kernels::Buffer& whole);

  const Parts parts_;
  const int64_t whole_stride_;  // of rows that hold the whole vocabulary
  std::vector<Slot> slots_;
  kernels::Buffer history_;   // [max_sequences, shard.vocab]
  kernels::Buffer adjusted_;  // [at most kLogitsTile, shard.vocab_stride]
  kernels::Buffer logprobs_;  // rank 0: [max_sequences + max_output_rows, 1 + kMaxTopLogprobs]
  kernels::Buffer input_;     // what the step is told

  // With several ranks.
  std::unique_ptr<RowCollector> collector_;
  kernels::Buffer candidates_;      // [at most kLogitsTile]
  kernels::Buffer all_candidates_;  // [world, as candidates_]
  kernels::Buffer whole_logits_;    // rank 0: [at most kLogitsTile, vocab], the rows collected
  kernels::Buffer whole_adjusted_;  // as whole_logits_

  // The step between Begin and End. What is as plan->samples does nothing for the samples it does not
  // concern.
  const StepPlan* plan_ = nullptr;
  Told<kernels::DrawRow> whole_draws_;  // as plan->samples: drawn from whole rows
  Told<kernels::DrawRow> part_draws_;   // as plan->samples: drawn from candidates; with several ranks
  Told<kernels::AdjustRow> adjusts_;    // as plan->samples
  Told<kernels::LogprobRow> wanted_;    // as plan->samples, then plan->scores
  Told<kernels::LogitBias> biases_;     // of this rank's part, ids from its first
  Told<int32_t> bans_;                  // as biases_
  Told<kernels::WordUpdate> updates_;   // as biases_
  RowList raw_rows_;                    // by output row; with several ranks
  RowList adjusted_rows_;               // by sample; with several ranks
  std::vector<Reset> resets_;
  std::vector<uint32_t> words_;  // [shard.vocab], zeros between admissions
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SAMPLER_H_
