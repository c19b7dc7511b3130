// Decides what the next step computes. Pure policy: no tensors, threads, clocks or RPC types; time is an
// argument.
#ifndef YOIO_ENGINE_SCHEDULER_H_
#define YOIO_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "base/clock.h"
#include "engine/block_pool.h"
#include "engine/sequence.h"
#include "engine/step_plan.h"

namespace yoio {

struct SchedulerOptions {
  int32_t block_tokens = 64;
  int32_t num_blocks = 0;     // of the global group
  int32_t max_sequences = 0;  // slots, hence rings
  int32_t max_step_tokens = 0;
  int32_t max_output_rows = 0;

  bool prefix_cache = false;
  int32_t num_snapshots = 0;         // rings for it, ids from max_sequences on
  int32_t ring_tokens = 0;           // of one ring; 0: the model has no window group
  int32_t replay_tokens = 0;         // so many tokens replayed before a position make its ring exact
  int32_t snapshot_interval = 8192;  // prefilled tokens between snapshots
  int32_t host_blocks = 0;           // room for preempted sequences in the host's memory
  int32_t host_rings = 0;
  Duration ageing = std::chrono::seconds(10);  // a request that waits so long rises one class
};

// What recent steps have cost, for choosing between ways; 0 while nothing is known.
struct StepCosts {
  double seconds_per_prompt_token = 0;
  double seconds_per_step = 0;  // of a step without prompt tokens
  double seconds_per_swapped_block = 0;
};

// What one step may take.
struct StepAllowance {
  int32_t max_prompt_tokens = std::numeric_limits<int32_t>::max();  // >= 1; generated tokens are not bound
  StepCosts costs;
};

// Policy: running sequences that decode come first, then prompts under way in order of arrival, then waiting
// requests in order of arrival as slots and blocks allow. A request takes every slot and block it can need
// when it is admitted, so nothing that runs ever lacks memory. Engine thread only.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // Blocks that `group` needs, over all its choices. Any thread.
  int32_t BlocksNeeded(const SequenceGroup& group) const;
  // Whether they and its slots exist at all. Any thread.
  bool CanEverRun(const SequenceGroup& group) const;

  // The group joins the queue. CanEverRun must hold.
  void Add(SequenceGroup* group);

  // The next step, or an empty plan when there is nothing to do. Steps are numbered from 0 without gaps;
  // results must come back in the same order. `now` never goes back.
  StepPlan Next(TimePoint now, const StepAllowance& allowance = {});

  struct Sample {
    SequenceGroup* group;
    int32_t choice;
    SampledToken* token;  // inside the result
  };
  struct Scores {
    SequenceGroup* group;
    int32_t first_position;  // of the first scored token
    std::vector<TokenRecord> tokens;
  };
  struct Delivery {
    std::vector<Sample> samples;  // only of choices that have not ended
    std::vector<Scores> scores;
  };
  // Takes the result of the oldest step under way.
  Delivery Deliver(StepResult& result);

  // The choice, for which a plan has drawn a token, is never planned again; what steps under way compute for
  // it is dropped. Before that a group can only end as a whole.
  void End(SequenceGroup* group, int32_t choice);
  // As End for every choice, at any time; a waiting group leaves the queue.
  void EndAll(SequenceGroup* group);

  // Groups whose slots and blocks have all returned since the last call.
  std::vector<SequenceGroup*> TakeRetired();

  int32_t num_waiting() const { return static_cast<int32_t>(waiting_.size()); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  int64_t waiting_tokens() const { return waiting_tokens_; }
  // Sequences that draw a token in every step.
  int32_t num_decoding() const;
  int32_t free_blocks() const { return blocks_.free(); }
  int32_t cached_blocks() const { return 0; }  // of the free ones: those that only the prefix cache holds
  int32_t total_blocks() const { return blocks_.total(); }
  int32_t free_slots() const { return static_cast<int32_t>(free_slots_.size()); }
  // 0 for the head of the queue; -1 when the group does not wait.
  int32_t QueuePosition(const SequenceGroup* group) const;

 private:
  struct Member {
    SequenceGroup* group;
    int32_t choice;
    Sequence& sequence() const { return group->choices[choice]; }
    bool operator==(const Member&) const = default;
  };
  // Scores of consecutive prompt tokens: the next `count` of StepPlan::scores.
  struct ScoreRange {
    SequenceGroup* group;
    int32_t first_position;
    int32_t count;
  };
  // What a plan computes, remembered until its result comes back.
  struct UnderWay {
    std::vector<Member> touched;     // one entry for each use of a sequence's slot or blocks
    std::vector<Member> samples;     // as StepPlan::samples
    std::vector<ScoreRange> scores;  // all of StepPlan::scores, in order
  };
  struct Chunk {
    Member member;
    int32_t count;  // tokens
  };
  struct Budget {
    int32_t tokens;
    int32_t prompt_tokens;  // of these tokens
    int32_t output_rows;
  };

  bool Admit(SequenceGroup* group, TimePoint now);
  void ChooseDecodes(Budget& budget, std::vector<Member>& decodes);
  bool ChooseChunk(SequenceGroup* group, Budget& budget, std::vector<Chunk>& chunks);
  void EmitForks(StepPlan& plan, UnderWay& under_way);
  void EmitChunk(const Chunk& chunk, StepPlan& plan, UnderWay& under_way);
  void EmitDecode(const Member& member, StepPlan& plan, UnderWay& under_way);
  StepSequence& EmitSequence(const Member& member, int32_t count, StepPlan& plan, UnderWay& under_way);
  void EmitSample(const Member& member, int32_t output_row, StepPlan& plan, UnderWay& under_way);
  void ForkChoices(SequenceGroup* group);
  void EndSequence(const Member& member);
  void LetGo(const Member& member);
  void MaybeRelease(const Member& member);

  const SchedulerOptions options_;
  BlockPool blocks_;
  std::vector<int32_t> free_slots_;
  std::vector<int32_t> blocks_sent_;  // [slots] how much of its table the workers know
  std::deque<SequenceGroup*> waiting_;
  int64_t waiting_tokens_ = 0;
  std::vector<SequenceGroup*> running_;  // in order of admission
  std::vector<SequenceGroup*> retired_;
  size_t next_decode_ = 0;  // where the last step's decodes ended, so that a tight budget goes around
  int64_t next_step_ = 0;
  std::deque<UnderWay> under_way_;
  std::vector<Member> forks_;  // choices whose copies of choice 0 the next plan makes
  std::vector<int32_t> released_slots_;
  std::vector<SlotAdmission> admitted_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SCHEDULER_H_
