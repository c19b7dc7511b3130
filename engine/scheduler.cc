#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace yoio {

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), memory_(options), waiting_(options.ageing), blocks_sent_(options.max_sequences, 0) {}

int32_t Scheduler::BlocksOfTokens(int32_t tokens) const {
  return (tokens + options_.block_tokens - 1) / options_.block_tokens;
}

int32_t Scheduler::BlocksNeeded(const SequenceGroup& group) const {
  const int32_t whole = BlocksOfTokens(group.max_cached_tokens());
  const int32_t shared = group.prompt_tokens() / options_.block_tokens;
  return whole + (group.n - 1) * (whole - shared);
}

int32_t Scheduler::TenantBlocks(const SequenceGroup& group) const {
  const double share = std::min(1.0, group.tenant_limits.max_cache_share);
  return std::max(1, static_cast<int32_t>(std::floor(share * options_.num_blocks)));
}

bool Scheduler::CanEverRun(const SequenceGroup& group) const {
  return group.n <= options_.max_sequences &&
         BlocksNeeded(group) <= std::min(options_.num_blocks, TenantBlocks(group));
}

void Scheduler::Add(SequenceGroup* group) {
  YOIO_CHECK(CanEverRun(*group));
  waiting_.Add(group, group->arrival, /*resumes=*/false);
}

int32_t Scheduler::QueuePosition(const SequenceGroup* group) {
  waiting_.Arrange(now_);
  return waiting_.Place(group);
}

int32_t Scheduler::num_decoding() const {
  int32_t count = 0;
  for (const SequenceGroup* group : running_) {
    for (const Sequence& sequence : group->choices) {
      if (!group->paused && !sequence.ended && PromptTokensLeft(*group, sequence) == 0) ++count;
    }
  }
  return count;
}

int64_t Scheduler::prompt_tokens_to_run() const {
  int64_t tokens = waiting_.tokens();
  for (const SequenceGroup* group : running_) {
    if (!group->choices[0].ended) tokens += PromptTokensLeft(*group, group->choices[0]);
  }
  return tokens;
}

StepPlan Scheduler::Next(TimePoint now, const StepAllowance& allowance) {
  now_ = now;
  costs_ = allowance.costs;
  Budget budget{.tokens = options_.max_step_tokens,
                .prompt_tokens = allowance.max_prompt_tokens,
                .output_rows = options_.max_output_rows};
  SaveRings();  // before anybody looks for hits
  GrowDecodes(now);
  AdmitWaiting(now, budget);
  const std::vector<Chunk> decodes = ChooseDecodes(budget);
  const std::vector<Chunk> prompts = ChoosePrompts(PromptsUnderWay(now), budget);
  if (decodes.empty() && prompts.empty()) return {};
  return Emit(prompts, decodes);
}

void Scheduler::SaveRings() {
  for (const Chunk& ring : std::exchange(rings_, {})) {
    YOIO_CHECK_EQ(ring.member.sequence().planned_tokens, ring.count) << "a plan came between";
    memory_.RememberRing(*ring.member.group, ring.member.sequence());
  }
}

void Scheduler::End(SequenceGroup* group, int32_t choice) {
  YOIO_CHECK_GT(group->choices[choice].planned_outputs, 0)
      << "choice " << choice << " ends alone in its prompt";
  EndSequence({group, choice});
}

void Scheduler::EndAll(SequenceGroup* group) {
  if (blocked_ == group) blocked_ = nullptr;
  if (waiting_.Remove(group, now_) && group->choices.empty()) {
    retired_.push_back(group);
    return;
  }
  for (int32_t choice = 0; choice < static_cast<int32_t>(group->choices.size()); ++choice) {
    EndSequence({group, choice});
  }
}

void Scheduler::EndSequence(const Member& member) {
  Sequence& sequence = member.sequence();
  if (sequence.ended) return;
  sequence.ended = true;
  if (std::erase(forks_, member) > 0) {  // its copies are not needed any more
    sequence.node.reset();
    --sequence.in_flight;
    LetGo({member.group, 0});
  }
  MaybeRelease(member);
}

void Scheduler::LetGo(const Member& member) {
  --member.sequence().in_flight;
  MaybeRelease(member);
}

void Scheduler::MaybeRelease(const Member& member) {
  Sequence& sequence = member.sequence();
  if (!sequence.ended || sequence.in_flight > 0) return;
  std::erase_if(rings_, [&](const Chunk& ring) { return ring.member == member; });
  if (sequence.slot >= 0) memory_.RememberRing(*member.group, sequence);
  memory_.Release(*member.group, member.choice);
  const bool all = std::all_of(
      member.group->choices.begin(), member.group->choices.end(),
      [](const Sequence& choice) { return choice.ended && choice.in_flight == 0 && choice.slot < 0; });
  if (!all) return;
  std::erase(running_, member.group);
  retired_.push_back(member.group);
}

std::vector<SequenceGroup*> Scheduler::TakeRetired() { return std::exchange(retired_, {}); }

}  // namespace yoio
