// Decides what the next step computes. Pure policy: no tensors, threads, clocks or RPC types; time is an
// argument.
#ifndef YOIO_ENGINE_SCHEDULER_H_
#define YOIO_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "engine/scheduler_options.h"
#include "engine/sequence.h"
#include "engine/sequence_memory.h"
#include "engine/step_plan.h"
#include "engine/waiting_queue.h"

namespace yoio {

// Policy. Running sequences that draw a token in every step come first, then prompts, in order of urgency.
// When the most urgent prompt is long, shorter ones of its class share half of what a step may take, so that
// they need not wait for its end. Waiting requests (WaitingQueue) are admitted as slots, blocks, their
// tenant's share and the tokens of a step allow.
//
// A request takes the blocks of its prompt when it is admitted, and further ones as it grows. When none is
// free, the running request that matters least gives way: what it has computed goes to the host, or is
// computed again, whichever is cheaper. It waits until its newest token is known and goes on before new
// requests of its class; nobody sees it in its output. A waiting request makes others give way only when its
// own class is above the one they were admitted with. Requests that are not SequenceGroup::preemptible take
// all blocks that they can need at admission, and never give way.
//
// Engine thread only.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // The most blocks that `group` can need, over all its choices. Any thread.
  int32_t BlocksNeeded(const SequenceGroup& group) const;
  // Whether they and its slots exist at all, within its tenant's share. Any thread.
  bool CanEverRun(const SequenceGroup& group) const;

  // The group joins the queue. CanEverRun must hold.
  void Add(SequenceGroup* group);

  // The next step, or an empty plan when there is nothing to do. Steps are numbered from 0 without gaps;
  // results must come back in the same order. `now` never goes back.
  StepPlan Next(TimePoint now, const StepAllowance& allowance = {});

  // What the last plan that is not empty computes for whom: as StepPlan::sequences.
  struct Part {
    SequenceGroup* group;
    int32_t tokens;
  };
  const std::vector<Part>& parts() const { return parts_; }

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

  // The prefix cache forgets everything.
  void ClearCache() { memory_.ClearCache(); }

  int32_t num_waiting() const { return waiting_.size(); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  // Sequences that draw a token in every step.
  int32_t num_decoding() const;
  int64_t waiting_tokens() const { return waiting_.tokens(); }
  // Of prompts that wait or are under way.
  int64_t prompt_tokens_to_run() const;
  const WaitingQueue& waiting() const { return waiting_; }
  // Those that only the prefix cache holds are free, too.
  int32_t free_blocks() const { return memory_.free_blocks(); }
  int32_t cached_blocks() const { return memory_.cached_blocks(); }
  int32_t total_blocks() const { return memory_.total_blocks(); }
  int32_t free_slots() const { return memory_.free_slots(); }
  // 0 for the head of the queue; -1 when the group does not wait.
  int32_t QueuePosition(const SequenceGroup* group);

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
    std::vector<Member> touched;     // one entry for each use of a sequence
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
  // A prompt under way.
  struct Prompt {
    SequenceGroup* group;
    Urgency urgency;
    int32_t left;  // tokens
  };

  // What runs in the next step (scheduler_choose.cc).
  bool IsReady(const SequenceGroup& group, const Sequence& sequence) const;
  static int32_t PromptTokensLeft(const SequenceGroup& group, const Sequence& sequence);
  static int32_t TokensToDraw(const SequenceGroup& group, const Sequence& sequence);
  std::vector<Chunk> ChooseDecodes(Budget& budget);
  std::vector<Prompt> PromptsUnderWay(TimePoint now) const;
  std::vector<Chunk> ChoosePrompts(std::vector<Prompt> prompts, Budget& budget);
  int32_t ChoosePromptTokens(const Prompt& prompt, int32_t limit, Budget& budget) const;

  // Who holds slots and blocks (scheduler_memory.cc).
  void GrowDecodes(TimePoint now);
  void AdmitWaiting(TimePoint now, const Budget& budget);
  std::optional<WaitCause> TryAdmit(int32_t place, TimePoint now, int32_t prompt_tokens,
                                    std::vector<Prompt>& prompts);
  static bool HasTurn(const Urgency& urgency, int32_t left, int32_t prompt_tokens,
                      const std::vector<Prompt>& prompts);
  WaitCause FindRoom(SequenceGroup* group, TimePoint now, PrefixCache::Hit& hit, int32_t& pinned);
  bool MakeRoom(const SequenceGroup& group, int32_t slots, int32_t blocks, TimePoint now);
  void Start(SequenceGroup* group, PrefixCache::Hit hit, int32_t pinned, TimePoint now);
  void Preempt(SequenceGroup* group, TimePoint now);
  bool CheaperToSwap(const SequenceGroup& group) const;
  SequenceGroup* LeastUrgent(TimePoint now, const std::string* tenant = nullptr) const;
  int32_t BlocksOfTokens(int32_t tokens) const;
  int32_t BlocksToStart(const SequenceGroup& group) const;
  int32_t TenantBlocks(const SequenceGroup& group) const;
  bool WithinShare(const SequenceGroup& group, int32_t more) const;
  int32_t Headroom() const;

  // Plans and results (scheduler_steps.cc).
  StepPlan Emit(const std::vector<Chunk>& prompts, const std::vector<Chunk>& decodes);
  void EmitForks(StepPlan& plan, UnderWay& under_way);
  void EmitPrompt(const Chunk& chunk, StepPlan& plan, UnderWay& under_way);
  void EmitScores(const StepSequence& step, SequenceGroup& group, StepPlan& plan, UnderWay& under_way);
  void EmitDecode(const Chunk& chunk, StepPlan& plan, UnderWay& under_way);
  StepSequence EmitSequence(const Chunk& chunk, StepPlan& plan, UnderWay& under_way);
  void EmitSample(const Member& member, int32_t output_row, StepPlan& plan, UnderWay& under_way);
  void ForkChoices(SequenceGroup* group);
  void SaveRings();

  void EndSequence(const Member& member);
  void LetGo(const Member& member);
  void MaybeRelease(const Member& member);

  const SchedulerOptions options_;
  SequenceMemory memory_;
  WaitingQueue waiting_;
  StepCosts costs_;
  std::vector<int32_t> blocks_sent_;     // [slots] how much of its table the workers know
  std::vector<SequenceGroup*> running_;  // in order of admission
  std::vector<SequenceGroup*> retired_;
  size_t next_decode_ = 0;  // where the last step's decodes ended, so that a tight budget goes around
  int64_t next_step_ = 0;
  TimePoint now_{};
  std::deque<UnderWay> under_way_;
  std::vector<Part> parts_;
  std::vector<Member> forks_;               // choices whose copies of choice 0 the next plan makes
  std::vector<Chunk> rings_;                // the ring as it stands after so many tokens is worth keeping
  const SequenceGroup* blocked_ = nullptr;  // whom FindRoom found too few blocks for last
  int32_t blocked_blocks_ = 0;              // and how many it needs, headroom apart
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SCHEDULER_H_
