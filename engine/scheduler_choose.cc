// What runs in the next step.
#include <algorithm>

#include "engine/scheduler.h"

namespace yoio {
int32_t Scheduler::PromptTokensLeft(const SequenceGroup& group, const Sequence& sequence) {
  return std::max(0, group.prompt_tokens_to_run() - sequence.planned_tokens);
}

// Tokens to run before the next one is drawn: one, and those that are to be computed again.
int32_t Scheduler::TokensToDraw(const SequenceGroup& group, const Sequence& sequence) {
  return group.prompt_tokens() + sequence.planned_outputs - sequence.planned_tokens;
}

bool Scheduler::IsReady(const SequenceGroup& group, const Sequence& sequence) const {
  if (group.paused || sequence.ended || sequence.slot < 0) return false;
  if (PromptTokensLeft(group, sequence) > 0) return false;
  if (sequence.planned_outputs == 0 || sequence.planned_outputs >= group.max_tokens) return false;
  // Its newest token is known, or the previous step draws it: no plan can name an older step's rows.
  return sequence.known() || sequence.last_sample_step == next_step_ - 1;
}

std::vector<Scheduler::Chunk> Scheduler::ChooseDecodes(Budget& budget) {
  std::vector<Member> ready;
  for (SequenceGroup* group : running_) {
    for (int32_t choice = 0; choice < group->n; ++choice) {
      const Sequence& sequence = group->choices[choice];
      if (!IsReady(*group, sequence)) continue;
      const int32_t room = static_cast<int32_t>(sequence.blocks.size()) * options_.block_tokens;
      if (sequence.planned_tokens < room) ready.push_back({group, choice});
    }
  }
  const size_t room = static_cast<size_t>(std::min(budget.tokens, budget.output_rows));
  const size_t first = ready.size() <= room ? 0 : next_decode_ % ready.size();
  int32_t again = std::max(kMaxCaughtUpRows - static_cast<int32_t>(ready.size()), 1);
  std::vector<Chunk> decodes;
  size_t i = 0;
  for (; i < ready.size() && budget.tokens > 0; ++i) {
    const Member& member = ready[(first + i) % ready.size()];
    const int32_t left = TokensToDraw(*member.group, member.sequence());
    int32_t count = std::min({left, kMaxCaughtUpTokens, 1 + again, budget.tokens});
    if (count == left && budget.output_rows == 0) --count;
    if (count == 0) break;
    if (count == left) --budget.output_rows;
    budget.tokens -= count;
    again -= count - 1;
    decodes.push_back({member, count});
  }
  next_decode_ = first + i;
  return decodes;
}

std::vector<Scheduler::Prompt> Scheduler::PromptsUnderWay(TimePoint now) const {
  std::vector<Prompt> prompts;
  for (SequenceGroup* group : running_) {
    const Sequence& sequence = group->choices[0];
    const int32_t left = PromptTokensLeft(*group, sequence);
    if (group->paused || sequence.ended || left == 0) continue;
    prompts.push_back({group, Urgency::Of(*group, now, now, options_.ageing), left});
  }
  std::stable_sort(prompts.begin(), prompts.end(),
                   [](const Prompt& a, const Prompt& b) { return a.urgency < b.urgency; });
  return prompts;
}

std::vector<Scheduler::Chunk> Scheduler::ChoosePrompts(std::vector<Prompt> prompts, Budget& budget) {
  std::vector<Chunk> chunks;
  const auto choose = [&](Prompt& prompt, int32_t limit) {
    const int32_t count = ChoosePromptTokens(prompt, limit, budget);
    if (count > 0) chunks.push_back({{prompt.group, 0}, count});
    prompt.left = 0;  // it has had its turn
    return count;
  };
  if (prompts.size() > 1) {
    const Prompt& first = prompts.front();
    std::vector<Prompt*> shorter;
    for (Prompt& prompt : prompts) {
      if (prompt.urgency.level == first.urgency.level && prompt.left < first.left) shorter.push_back(&prompt);
    }
    std::stable_sort(shorter.begin(), shorter.end(),
                     [](const Prompt* a, const Prompt* b) { return a->left < b->left; });
    int32_t half = std::min(budget.tokens, budget.prompt_tokens) / 2;
    for (Prompt* prompt : shorter) {
      if (half > 0) half -= choose(*prompt, half);
    }
  }
  for (Prompt& prompt : prompts) {
    if (prompt.left > 0) choose(prompt, prompt.left);
  }
  return chunks;
}

// Takes at most `limit` tokens of the prompt, and what they cost, from the budget.
int32_t Scheduler::ChoosePromptTokens(const Prompt& prompt, int32_t limit, Budget& budget) const {
  const SequenceGroup& group = *prompt.group;
  const Sequence& sequence = group.choices[0];
  int32_t count = std::min({prompt.left, limit, budget.tokens, budget.prompt_tokens});
  if (memory_.remembers_rings() && sequence.node.has_value()) {
    // A chunk ends where the ring is to be kept.
    const int32_t interval = options_.snapshot_interval;
    const int32_t exact_from = std::max(sequence.planned_tokens, sequence.global_from);
    count = std::min(count, (exact_from / interval + 1) * interval - sequence.planned_tokens);
  }
  // A prompt that is scored needs a row for each of its tokens, one that draws a token for its last.
  int32_t rows = 0;
  if (group.logprobs.prompt) {
    count = std::min(count, budget.output_rows);
    rows = count;
  } else if (count == prompt.left && sequence.planned_outputs == 0) {
    rows = 1;
    if (budget.output_rows == 0) {
      --count;
      rows = 0;
    }
  }
  budget.tokens -= count;
  budget.prompt_tokens -= count;
  budget.output_rows -= rows;
  return count;
}

}  // namespace yoio
