#include "engine/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace yoio {
namespace {

int32_t CeilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), blocks_(options.num_blocks), blocks_sent_(options.max_sequences, 0) {
  for (int32_t slot = options.max_sequences - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

int32_t Scheduler::BlocksNeeded(const SequenceGroup& group) const {
  const int32_t whole = CeilDiv(group.max_cached_tokens(), options_.block_tokens);
  const int32_t shared = static_cast<int32_t>(group.prompt.size()) / options_.block_tokens;
  return whole + (group.n - 1) * (whole - shared);
}

bool Scheduler::CanEverRun(const SequenceGroup& group) const {
  return group.n <= options_.max_sequences && BlocksNeeded(group) <= options_.num_blocks;
}

void Scheduler::Add(SequenceGroup* group) {
  YOIO_CHECK(CanEverRun(*group));
  waiting_.push_back(group);
  waiting_tokens_ += static_cast<int64_t>(group->prompt.size());
}

int32_t Scheduler::QueuePosition(const SequenceGroup* group) const {
  const auto it = std::find(waiting_.begin(), waiting_.end(), group);
  return it == waiting_.end() ? -1 : static_cast<int32_t>(it - waiting_.begin());
}

int32_t Scheduler::num_decoding() const {
  int32_t count = 0;
  for (const SequenceGroup* group : running_) {
    for (const Sequence& sequence : group->choices) {
      count += !group->paused && !sequence.ended && sequence.planned_outputs > 0 ? 1 : 0;
    }
  }
  return count;
}

StepPlan Scheduler::Next(TimePoint now, const StepAllowance& allowance) {
  Budget budget{.tokens = options_.max_step_tokens,
                .prompt_tokens = allowance.max_prompt_tokens,
                .output_rows = options_.max_output_rows};
  std::vector<Member> decodes;
  std::vector<Chunk> chunks;
  ChooseDecodes(budget, decodes);
  for (SequenceGroup* group : running_) ChooseChunk(group, budget, chunks);
  while (!waiting_.empty() && std::min(budget.tokens, budget.prompt_tokens) > 0 &&
         Admit(waiting_.front(), now)) {
    SequenceGroup* group = waiting_.front();
    waiting_.pop_front();
    waiting_tokens_ -= static_cast<int64_t>(group->prompt.size());
    ChooseChunk(group, budget, chunks);
  }

  StepPlan plan;
  if (decodes.empty() && chunks.empty()) return plan;
  plan.step = next_step_++;
  plan.released_slots = std::exchange(released_slots_, {});
  plan.admitted = std::exchange(admitted_, {});
  UnderWay under_way;
  EmitForks(plan, under_way);
  for (const Chunk& chunk : chunks) EmitChunk(chunk, plan, under_way);
  plan.num_prompt_tokens = static_cast<int32_t>(plan.token_ids.size());
  for (const Member& member : decodes) EmitDecode(member, plan, under_way);
  under_way_.push_back(std::move(under_way));
  return plan;
}

bool Scheduler::Admit(SequenceGroup* group, TimePoint now) {
  if (group->n > free_slots() || BlocksNeeded(*group) > free_blocks()) return false;
  const int32_t whole = CeilDiv(group->max_cached_tokens(), options_.block_tokens);
  const int32_t shared = static_cast<int32_t>(group->prompt.size()) / options_.block_tokens;
  group->choices.resize(group->n);
  group->first_scheduled = now;
  for (int32_t choice = 0; choice < group->n; ++choice) {
    Sequence& sequence = group->choices[choice];
    sequence.slot = free_slots_.back();
    free_slots_.pop_back();
    blocks_sent_[sequence.slot] = 0;
    const int32_t own = choice == 0 ? whole : whole - shared;  // ForkChoices puts the shared ones in front
    for (int32_t i = 0; i < own; ++i) sequence.blocks.push_back(blocks_.Take());

    SlotAdmission admission{.slot = sequence.slot,
                            .sampling = group->sampling,
                            .stop_ids = group->stop_ids,
                            .min_tokens = group->min_tokens,
                            .prompt_ids = {},
                            .output_ids = {}};
    if (group->sampling.NeedsHistory()) admission.prompt_ids = group->prompt;
    admitted_.push_back(std::move(admission));
  }
  running_.push_back(group);
  return true;
}

void Scheduler::ChooseDecodes(Budget& budget, std::vector<Member>& decodes) {
  std::vector<Member> ready;
  for (SequenceGroup* group : running_) {
    if (group->paused) continue;
    for (int32_t choice = 0; choice < group->n; ++choice) {
      const Sequence& sequence = group->choices[choice];
      if (sequence.ended || sequence.planned_outputs == 0 || sequence.planned_outputs >= group->max_tokens)
        continue;
      // Its newest token is known, or the previous step draws it: no plan can name an older step's rows.
      const bool known = sequence.delivered_outputs == sequence.planned_outputs;
      if (known || sequence.last_sample_step == next_step_ - 1) ready.push_back({group, choice});
    }
  }
  const size_t room = static_cast<size_t>(std::min(budget.tokens, budget.output_rows));
  const size_t count = std::min(ready.size(), room);
  const size_t first = count < ready.size() ? next_decode_ % ready.size() : 0;
  for (size_t i = 0; i < count; ++i) decodes.push_back(ready[(first + i) % ready.size()]);
  next_decode_ = first + count;
  budget.tokens -= static_cast<int32_t>(count);
  budget.output_rows -= static_cast<int32_t>(count);
}

bool Scheduler::ChooseChunk(SequenceGroup* group, Budget& budget, std::vector<Chunk>& chunks) {
  const Sequence& sequence = group->choices[0];
  const int32_t left = group->prompt_tokens_to_run() - sequence.planned_tokens;
  if (group->paused || sequence.ended || left <= 0) return false;
  int32_t count = std::min({left, budget.tokens, budget.prompt_tokens});
  // A prompt that is scored needs a row for each of its tokens, any other one for its last.
  int32_t rows = count == left ? 1 : 0;
  if (group->logprobs.prompt) {
    count = std::min(count, budget.output_rows);
    rows = count;
  } else if (rows > budget.output_rows) {
    --count;
    rows = 0;
  }
  if (count <= 0) return false;
  budget.tokens -= count;
  budget.prompt_tokens -= count;
  budget.output_rows -= rows;
  chunks.push_back({{group, 0}, count});
  return true;
}

void Scheduler::EmitForks(StepPlan& plan, UnderWay& under_way) {
  for (const Member& fork : std::exchange(forks_, {})) {
    const Member source{fork.group, 0};
    const int32_t prompt = static_cast<int32_t>(fork.group->prompt.size());
    const int32_t partial = prompt / options_.block_tokens;
    if (prompt % options_.block_tokens != 0) {
      plan.block_copies.push_back(
          {source.sequence().blocks[partial].id(), fork.sequence().blocks[partial].id()});
    }
    plan.ring_copies.push_back({source.sequence().slot, fork.sequence().slot});
    // The holds that ForkChoices took pass on to this step.
    under_way.touched.push_back(source);
    under_way.touched.push_back(fork);
  }
}

StepSequence& Scheduler::EmitSequence(const Member& member, int32_t count, StepPlan& plan,
                                      UnderWay& under_way) {
  Sequence& sequence = member.sequence();
  int32_t& sent = blocks_sent_[sequence.slot];
  const int32_t needed = CeilDiv(sequence.planned_tokens + count, options_.block_tokens);
  StepSequence step{.slot = sequence.slot,
                    .token_begin = static_cast<int32_t>(plan.token_ids.size()),
                    .token_count = count,
                    .start_position = sequence.planned_tokens,
                    .new_block_begin = static_cast<int32_t>(plan.new_blocks.size()),
                    .new_block_count = std::max(0, needed - sent)};
  for (; sent < needed; ++sent) plan.new_blocks.push_back(sequence.blocks[sent].id());
  for (int32_t i = 0; i < count; ++i) plan.positions.push_back(sequence.planned_tokens + i);
  sequence.planned_tokens += count;
  ++sequence.in_flight;
  under_way.touched.push_back(member);
  plan.sequences.push_back(step);
  return plan.sequences.back();
}

void Scheduler::EmitChunk(const Chunk& chunk, StepPlan& plan, UnderWay& under_way) {
  SequenceGroup& group = *chunk.member.group;
  const StepSequence step = EmitSequence(chunk.member, chunk.count, plan, under_way);
  const auto first = group.prompt.begin() + step.start_position;
  plan.token_ids.insert(plan.token_ids.end(), first, first + chunk.count);
  ++group.prefill_chunks;

  const int32_t end = step.start_position + chunk.count;
  const int32_t last = static_cast<int32_t>(group.prompt.size()) - 1;
  if (group.logprobs.prompt) {
    const int32_t scored_end = std::min(end, last);
    for (int32_t position = step.start_position; position < scored_end; ++position) {
      plan.scores.push_back({static_cast<int32_t>(plan.output_tokens.size()), group.prompt[position + 1],
                             group.logprobs.top_n});
      plan.output_tokens.push_back(step.token_begin + position - step.start_position);
    }
    if (scored_end > step.start_position) {
      under_way.scores.push_back({&group, step.start_position + 1, scored_end - step.start_position});
    }
  }
  if (end <= last) return;
  const int32_t output_row = static_cast<int32_t>(plan.output_tokens.size());
  plan.output_tokens.push_back(step.token_begin + chunk.count - 1);
  for (int32_t choice = 0; choice < group.n; ++choice) {
    EmitSample({&group, choice}, output_row, plan, under_way);
  }
  if (group.n > 1) ForkChoices(&group);
}

void Scheduler::EmitDecode(const Member& member, StepPlan& plan, UnderWay& under_way) {
  Sequence& sequence = member.sequence();
  const StepSequence step = EmitSequence(member, 1, plan, under_way);
  const bool known = sequence.delivered_outputs == sequence.planned_outputs;
  plan.token_ids.push_back(known ? sequence.outputs.back() : -1 - sequence.last_sample_row);
  plan.output_tokens.push_back(step.token_begin);
  if (std::exchange(member.group->last_decode_step, plan.step) != plan.step) ++member.group->decode_steps;
  EmitSample(member, static_cast<int32_t>(plan.output_tokens.size()) - 1, plan, under_way);
}

void Scheduler::EmitSample(const Member& member, int32_t output_row, StepPlan& plan, UnderWay& under_way) {
  Sequence& sequence = member.sequence();
  sequence.last_sample_step = plan.step;
  sequence.last_sample_row = static_cast<int32_t>(plan.samples.size());
  plan.samples.push_back({.output_row = output_row,
                          .slot = sequence.slot,
                          .sample_index = member.choice,
                          .output_position = sequence.planned_outputs,
                          .logprob = member.group->logprobs.output,
                          .top_n = member.group->logprobs.top_n});
  ++sequence.planned_outputs;
  ++sequence.in_flight;
  under_way.samples.push_back(member);
  under_way.touched.push_back(member);
}

void Scheduler::ForkChoices(SequenceGroup* group) {
  Sequence& source = group->choices[0];
  const int32_t shared = static_cast<int32_t>(group->prompt.size()) / options_.block_tokens;
  for (int32_t choice = 1; choice < group->n; ++choice) {
    Sequence& sequence = group->choices[choice];
    sequence.blocks.insert(sequence.blocks.begin(), source.blocks.begin(), source.blocks.begin() + shared);
    sequence.planned_tokens = source.planned_tokens;
    ++source.in_flight;  // held until the copies are planned
    ++sequence.in_flight;
    forks_.push_back({group, choice});
  }
}

Scheduler::Delivery Scheduler::Deliver(StepResult& result) {
  YOIO_CHECK(!under_way_.empty());
  UnderWay under_way = std::move(under_way_.front());
  under_way_.pop_front();
  YOIO_CHECK_EQ(result.samples.size(), under_way.samples.size());

  Delivery delivery;
  for (size_t i = 0; i < under_way.samples.size(); ++i) {
    const Member& member = under_way.samples[i];
    Sequence& sequence = member.sequence();
    ++sequence.delivered_outputs;
    sequence.outputs.push_back(result.samples[i].record.id);
    if (!sequence.ended) delivery.samples.push_back({member.group, member.choice, &result.samples[i]});
  }
  auto next_score = result.scores.begin();
  for (const ScoreRange& range : under_way.scores) {
    YOIO_CHECK_LE(range.count, result.scores.end() - next_score);
    const auto end = next_score + range.count;
    if (!range.group->choices[0].ended) {
      delivery.scores.push_back({range.group,
                                 range.first_position,
                                 {std::make_move_iterator(next_score), std::make_move_iterator(end)}});
    }
    next_score = end;
  }
  YOIO_CHECK(next_score == result.scores.end()) << "more scores than the plan asked for";
  for (const Member& member : under_way.touched) LetGo(member);
  return delivery;
}

void Scheduler::End(SequenceGroup* group, int32_t choice) {
  YOIO_CHECK_GT(group->choices[choice].planned_outputs, 0)
      << "choice " << choice << " ends alone in its prompt";
  EndSequence({group, choice});
}

void Scheduler::EndAll(SequenceGroup* group) {
  if (const auto it = std::find(waiting_.begin(), waiting_.end(), group); it != waiting_.end()) {
    waiting_tokens_ -= static_cast<int64_t>(group->prompt.size());
    waiting_.erase(it);
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
  if (!sequence.ended || sequence.in_flight > 0 || sequence.slot < 0) return;
  // Workers that have not been told of the admission need no release either.
  const auto admitted = std::erase_if(
      admitted_, [&](const SlotAdmission& admission) { return admission.slot == sequence.slot; });
  if (admitted == 0) released_slots_.push_back(sequence.slot);
  free_slots_.push_back(sequence.slot);
  sequence.slot = -1;
  sequence.blocks.clear();
  const bool all = std::all_of(member.group->choices.begin(), member.group->choices.end(),
                               [](const Sequence& choice) { return choice.slot < 0; });
  if (!all) return;
  std::erase(running_, member.group);
  retired_.push_back(member.group);
}

std::vector<SequenceGroup*> Scheduler::TakeRetired() { return std::exchange(retired_, {}); }

}  // namespace yoio
