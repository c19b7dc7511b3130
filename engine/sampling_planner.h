// What one rank's device is told about the samples and scores of a step.
#ifndef YOIO_ENGINE_SAMPLING_PLANNER_H_
#define YOIO_ENGINE_SAMPLING_PLANNER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/model/weights.h"
#include "engine/step_plan.h"
#include "kernels/ops.h"

namespace yoio {

inline bool WantsLogprob(const SampleRow& row) { return row.logprob || row.top_n > 0; }

// The lists of one step. What is "as the samples" has an entry for each sample of the plan, which does
// nothing for those that it does not concern. Rows of logits are counted inside their tile.
struct SamplingLists {
  template <typename T>
  struct List {
    std::vector<T> host;
    T* device = nullptr;  // a copy
  };
  // Rows to bring together on rank 0, found by ascending keys.
  struct RowList {
    std::vector<int32_t> keys;
    List<int32_t> rows;  // as keys
  };
  // A slot's history begins anew, with a range of `updates`.
  struct Reset {
    int32_t slot;
    size_t begin;
    size_t count;
  };

  List<kernels::DrawRow> whole_draws;  // as the samples: what is drawn from whole rows
  List<kernels::DrawRow> part_draws;   // as the samples: what is drawn from candidates; with several ranks
  List<kernels::AdjustRow> adjusts;    // as the samples
  List<kernels::LogprobRow> wanted;    // as the samples, then as the scores
  List<kernels::LogitBias> biases;     // of the rank's part of the vocabulary, counted from its first id
  List<int32_t> bans;                  // as biases
  List<kernels::WordUpdate> updates;   // as biases
  RowList raw_rows;                    // keys: output rows; with several ranks
  RowList adjusted_rows;               // keys: samples, rows: their places among those drawn in one call
  std::vector<Reset> resets;

  void Clear();
  // Calls visit(list) for every List.
  template <typename Visit>
  void ForEach(const Visit& visit) {
    visit(whole_draws);
    visit(part_draws);
    visit(adjusts);
    visit(wanted);
    visit(biases);
    visit(bans);
    visit(updates);
    visit(raw_rows.rows);
    visit(adjusted_rows.rows);
  }
};

// Follows the slots from plan to plan.
class SamplingPlanner {
 public:
  SamplingPlanner(const Shard& shard, int vocab, int max_sequences);

  // Every id of an admission lies inside the vocabulary. A slot may be admitted again without a release.
  void Plan(const StepPlan& plan, SamplingLists& lists);

 private:
  struct Slot {
    SamplingParams sampling;
    std::vector<int32_t> stop_ids;
    int32_t min_tokens = 0;
  };

  void Admit(const SlotAdmission& admission, SamplingLists& lists);
  void AddHistory(const SlotAdmission& admission, SamplingLists& lists);
  void AddSample(const SampleRow& row, int index, int place, SamplingLists& lists) const;
  void AddAdjust(const SampleRow& row, bool adjusts, bool bans, SamplingLists& lists) const;
  void AddDraw(const SampleRow& row, bool adjusts, int index, int place, SamplingLists& lists) const;
  static void AddRawRows(const StepPlan& plan, SamplingLists& lists);

  // Where an id lies in this rank's part; negative when in another's.
  int32_t PlaceOf(int32_t id) const {
    const int32_t place = id - shard_.vocab_begin;
    return place < shard_.vocab ? place : -1;
  }
  bool several() const { return shard_.world > 1; }

  const Shard shard_;
  const int vocab_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> words_;  // [shard.vocab], zeros between admissions
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SAMPLING_PLANNER_H_
