// Who holds slots and blocks: admission, growth, and giving way.
#include <algorithm>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "engine/scheduler.h"

namespace yoio {
namespace {

bool Contains(const std::vector<const std::string*>& names, const std::string& name) {
  return std::any_of(names.begin(), names.end(), [&](const std::string* other) { return *other == name; });
}

}  // namespace

// --- Growth ---

// Sequences that are about to draw a token get a block for the one before, the most urgent first.
void Scheduler::GrowDecodes(TimePoint now) {
  std::vector<std::pair<Urgency, SequenceGroup*>> growing;
  bool leaving = false;  // somebody returns its blocks as soon as the steps under way have ended
  for (SequenceGroup* group : running_) {
    for (const Sequence& sequence : group->choices) {
      leaving |= sequence.slot >= 0 && (sequence.ended || sequence.planned_outputs >= group->max_tokens) &&
                 sequence.in_flight > 0;
    }
    const Sequence& sequence = group->choices[0];
    if (!IsReady(*group, sequence)) continue;
    if (BlocksOfTokens(sequence.planned_tokens + 1) <= static_cast<int32_t>(sequence.blocks.size())) continue;
    growing.emplace_back(Urgency::Of(*group, now, now, options_.ageing), group);
  }
  std::stable_sort(growing.begin(), growing.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [urgency, group] : growing) {
    while (group->choices[0].slot >= 0) {
      const bool share = WithinShare(*group, 1);
      if (share && memory_.free_blocks() > 0) {
        memory_.Grow(*group, 0, BlocksOfTokens(group->choices[0].planned_tokens + 1));
        break;
      }
      if (leaving) break;
      Preempt(LeastUrgent(now, share ? nullptr : &group->tenant), now);
    }
  }
}

// Of those that can give way, of the tenant if one is named. Whoever's reader is behind matters less.
SequenceGroup* Scheduler::LeastUrgent(TimePoint now, const std::string* tenant) const {
  SequenceGroup* least = nullptr;
  const auto rank = [&](const SequenceGroup& group) {
    const Urgency urgency = Urgency::Of(group, now, now, options_.ageing);
    return std::tuple(urgency.level, group.paused, urgency);
  };
  for (SequenceGroup* group : running_) {
    if (!group->preemptible() || group->choices[0].ended) continue;
    if (tenant != nullptr && group->tenant != *tenant) continue;
    if (least == nullptr || rank(*group) >= rank(*least)) least = group;
  }
  YOIO_CHECK(least != nullptr) << "nobody can give way";
  return least;
}

// --- Giving way ---

bool Scheduler::CheaperToSwap(const SequenceGroup& group) const {
  const int32_t tokens = group.choices[0].planned_tokens;
  const int32_t given = std::min(tokens, group.prompt_tokens());
  const int32_t steps = (tokens - given + kMaxCaughtUpTokens - 1) / kMaxCaughtUpTokens;
  const double again = given * costs_.seconds_per_prompt_token + steps * costs_.seconds_per_step;
  return BlocksOfTokens(tokens) * costs_.seconds_per_swapped_block <= again;
}

void Scheduler::Preempt(SequenceGroup* group, TimePoint now) {
  Sequence& sequence = group->choices[0];
  if (CheaperToSwap(*group) && memory_.CanSwapOut(sequence)) {
    memory_.SwapOut(*group, 0);
  } else {
    memory_.Release(*group, 0);
    sequence.planned_tokens = 0;
  }
  ++group->preemptions;
  std::erase(running_, group);
  waiting_.Add(group, now, /*resumes=*/true);
}

// Lower classes give way until so many slots and blocks are free. False, and nobody does, when all of them
// together do not have as many.
bool Scheduler::MakeRoom(const SequenceGroup& group, int32_t slots, int32_t blocks, TimePoint now) {
  const auto enough = [&](int32_t more_slots, int32_t more_blocks) {
    return memory_.free_slots() + more_slots >= slots && memory_.free_blocks() + more_blocks >= blocks;
  };
  if (enough(0, 0)) return true;
  const int32_t own = Urgency::OwnLevel(group);
  std::vector<std::pair<Urgency, SequenceGroup*>> lower;
  int32_t held = 0;
  for (SequenceGroup* other : running_) {
    const Urgency urgency = Urgency::Of(*other, now, now, options_.ageing);
    if (!other->preemptible() || other->choices[0].ended || urgency.level <= own) continue;
    lower.emplace_back(urgency, other);
    held += other->choices[0].charged_blocks;
  }
  if (!enough(static_cast<int32_t>(lower.size()), held)) return false;
  std::stable_sort(lower.begin(), lower.end(),
                   [](const auto& a, const auto& b) { return b.first < a.first; });
  for (const auto& [urgency, other] : lower) {
    if (enough(0, 0)) break;
    Preempt(other, now);
  }
  return enough(0, 0);
}

// --- Admission ---

void Scheduler::AdmitWaiting(TimePoint now, const Budget& budget) {
  if (waiting_.size() == 0) return;
  waiting_.Arrange(now);
  int32_t decodes = 0;
  for (const SequenceGroup* group : running_) {
    for (const Sequence& sequence : group->choices) decodes += IsReady(*group, sequence) ? 1 : 0;
  }
  const int32_t prompt_tokens = std::min(budget.prompt_tokens, budget.tokens - decodes);
  std::vector<Prompt> prompts = PromptsUnderWay(now);
  std::vector<const std::string*> full_tenants;
  WaitCause blocking = WaitCause::kNothing;  // what the first one that nobody may overtake waits for
  int32_t place = 0;
  int32_t end = waiting_.size();  // behind it are those that give way below
  while (place < end) {
    SequenceGroup* group = waiting_[place];
    WaitCause cause = blocking;
    if (cause == WaitCause::kNothing && Contains(full_tenants, group->tenant)) {
      cause = WaitCause::kTenantShare;
    } else if (cause == WaitCause::kNothing) {
      const std::optional<WaitCause> lacking = TryAdmit(place, now, prompt_tokens, prompts);
      if (!lacking.has_value()) {  // it has left its place
        --end;
        continue;
      }
      cause = *lacking;
      if (cause == WaitCause::kSlots || cause == WaitCause::kBlocks) blocking = cause;
      if (cause == WaitCause::kTenantShare) full_tenants.push_back(&group->tenant);
    }
    waiting_.SetCause(place++, cause, now);
  }
}

// Admits the request at this place of the queue, or says what it lacks; nothing when it must wait for its own
// newest token or for its reader.
std::optional<WaitCause> Scheduler::TryAdmit(int32_t place, TimePoint now, int32_t prompt_tokens,
                                             std::vector<Prompt>& prompts) {
  SequenceGroup* group = waiting_[place];
  const bool resumes = !group->choices.empty();
  if (group->paused || (resumes && !group->choices[0].known())) return WaitCause::kNothing;
  const int32_t left = resumes ? PromptTokensLeft(*group, group->choices[0]) : group->prompt_tokens_to_run();
  const Urgency urgency = waiting_.urgency(place);
  if (left > 0 && !HasTurn(urgency, left, prompt_tokens, prompts)) return WaitCause::kTokenBudget;

  PrefixCache::Hit hit;
  int32_t pinned = 0;
  const WaitCause lacking = FindRoom(group, now, hit, pinned);
  if (lacking != WaitCause::kNothing) return lacking;
  Start(group, std::move(hit), pinned, now);
  if (left > 0) {
    const auto after = std::upper_bound(prompts.begin(), prompts.end(), urgency,
                                        [](const Urgency& a, const Prompt& b) { return a < b.urgency; });
    prompts.insert(after, {group, urgency, PromptTokensLeft(*group, group->choices[0])});
  }
  return std::nullopt;
}

// Whether the next step has tokens for a prompt beside those under way, which are in order of urgency: the
// first of them leaves some to it, or it is shorter and they leave some of their half.
bool Scheduler::HasTurn(const Urgency& urgency, int32_t left, int32_t prompt_tokens,
                        const std::vector<Prompt>& prompts) {
  int64_t before = 0;   // tokens of prompts that run first
  int64_t shorter = 0;  // of all but the first of them
  for (const Prompt& prompt : prompts) {
    if (prompt.urgency.level > urgency.level) break;
    before += prompt.left;
    if (&prompt != &prompts.front()) shorter += prompt.left;
  }
  if (before < prompt_tokens) return true;
  if (before == 0) return false;
  const Prompt& first = prompts.front();
  return first.urgency.level == urgency.level && left < first.left && shorter < prompt_tokens / 2;
}

// What `group` lacks; kNothing when it can start with `hit`.
WaitCause Scheduler::FindRoom(SequenceGroup* group, TimePoint now, PrefixCache::Hit& hit, int32_t& pinned) {
  const int32_t own = Urgency::OwnLevel(*group);
  const bool above_others = std::any_of(running_.begin(), running_.end(), [&](const SequenceGroup* other) {
    return other->preemptible() && Urgency::Of(*other, now, now, options_.ageing).level > own;
  });
  if (group->n > free_slots() && !above_others) return WaitCause::kSlots;
  // A little is left over for the growth of those that run, or they would soon make each other give way.
  const int32_t headroom = running_.empty() ? 0 : Headroom() + (group->preemptible() ? 1 : 0);
  if (blocked_ == group && free_blocks() < blocked_blocks_ + headroom && !above_others) {
    return WaitCause::kBlocks;  // and nothing to look up again
  }

  const int32_t free_before = free_blocks();
  hit = memory_.Find(*group);
  pinned = free_before - free_blocks();
  const int32_t missing = BlocksToStart(*group) - static_cast<int32_t>(hit.blocks.size());
  if (!WithinShare(*group, missing + pinned)) return WaitCause::kTenantShare;
  if (MakeRoom(*group, group->n, missing + headroom, now)) return WaitCause::kNothing;
  if (group->n > free_slots()) return WaitCause::kSlots;
  blocked_ = group;
  blocked_blocks_ = missing + pinned;
  return WaitCause::kBlocks;
}

// Whether the tenant of `group` may hold so many more blocks. One that holds none may: CanEverRun has looked.
bool Scheduler::WithinShare(const SequenceGroup& group, int32_t more) const {
  const int32_t share = TenantBlocks(group);
  const int32_t held = memory_.BlocksOf(group.tenant);
  return share == options_.num_blocks || held == 0 || held + more <= share;
}

int32_t Scheduler::BlocksToStart(const SequenceGroup& group) const {
  if (!group.preemptible()) return BlocksNeeded(group);
  const int32_t outputs = group.choices.empty() ? 0 : group.choices[0].planned_outputs;
  return BlocksOfTokens(group.prompt_tokens() + outputs);
}

// One block for every running request that can still grow.
int32_t Scheduler::Headroom() const {
  return static_cast<int32_t>(
      std::count_if(running_.begin(), running_.end(), [&](const SequenceGroup* group) {
        const Sequence& sequence = group->choices[0];
        return group->preemptible() && !sequence.ended &&
               static_cast<int32_t>(sequence.blocks.size()) < BlocksOfTokens(group->max_cached_tokens());
      }));
}

void Scheduler::Start(SequenceGroup* group, PrefixCache::Hit hit, int32_t pinned, TimePoint now) {
  const bool resumes = !group->choices.empty();
  if (blocked_ == group) blocked_ = nullptr;
  waiting_.Start(group, resumes ? 0 : group->prompt_tokens() - hit.tokens, now);
  if (!resumes) {
    group->choices.resize(group->n);
    group->first_scheduled = now;
    group->cached_tokens = hit.tokens;
  }
  const int32_t shared = group->prompt_tokens() / options_.block_tokens;
  for (int32_t choice = 0; choice < group->n; ++choice) {
    const Sequence& sequence = group->choices[choice];
    if (choice == 0) {
      memory_.Start(*group, 0, std::move(hit), pinned);
      memory_.Grow(*group, 0,
                   group->preemptible() ? BlocksToStart(*group) : BlocksOfTokens(group->max_cached_tokens()));
      memory_.SwapIn(*group, 0);
    } else {  // ForkChoices puts the shared ones in front
      memory_.Start(*group, choice, {}, 0);
      memory_.Grow(*group, choice, BlocksOfTokens(group->max_cached_tokens()) - shared);
    }
    blocks_sent_[sequence.slot] = 0;
    SlotAdmission admission{.slot = sequence.slot,
                            .sampling = group->sampling,
                            .stop_ids = group->stop_ids,
                            .min_tokens = group->min_tokens,
                            .prompt_ids = {},
                            .output_ids = {}};
    if (group->sampling.NeedsHistory()) {
      admission.prompt_ids = group->prompt;
      admission.output_ids = sequence.outputs;
    }
    memory_.Admit(std::move(admission));
  }
  running_.push_back(group);
}

}  // namespace yoio
