// Plans as flat data, and their results.
#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "engine/scheduler.h"

namespace yoio {

StepPlan Scheduler::Emit(const std::vector<Chunk>& prompts, const std::vector<Chunk>& decodes) {
  StepPlan plan;
  plan.step = next_step_++;
  memory_.Fill(plan);
  parts_.clear();
  UnderWay under_way;
  EmitForks(plan, under_way);
  for (const Chunk& chunk : prompts) EmitPrompt(chunk, plan, under_way);
  plan.num_prompt_tokens = static_cast<int32_t>(plan.token_ids.size());
  for (const Chunk& chunk : decodes) EmitDecode(chunk, plan, under_way);
  under_way_.push_back(std::move(under_way));
  return plan;
}

void Scheduler::EmitForks(StepPlan& plan, UnderWay& under_way) {
  for (const Member& fork : std::exchange(forks_, {})) {
    const Member source{fork.group, 0};
    const int32_t prompt = fork.group->prompt_tokens();
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

StepSequence Scheduler::EmitSequence(const Chunk& chunk, StepPlan& plan, UnderWay& under_way) {
  SequenceGroup& group = *chunk.member.group;
  Sequence& sequence = chunk.member.sequence();
  int32_t& sent = blocks_sent_[sequence.slot];
  const int32_t begin = sequence.planned_tokens;
  const int32_t end = begin + chunk.count;
  const int32_t needed = BlocksOfTokens(end);
  const StepSequence step{.slot = sequence.slot,
                          .token_begin = static_cast<int32_t>(plan.token_ids.size()),
                          .token_count = chunk.count,
                          .start_position = begin,
                          .new_block_begin = static_cast<int32_t>(plan.new_blocks.size()),
                          .new_block_count = std::max(0, needed - sent),
                          .global_from = begin < sequence.global_from ? sequence.global_from : 0};
  for (; sent < needed; ++sent) plan.new_blocks.push_back(sequence.blocks[sent].id());
  for (int32_t position = begin; position < end; ++position) plan.positions.push_back(position);
  group.recomputed_tokens += std::max(0, std::min(end, sequence.computed_tokens) - begin);
  sequence.computed_tokens = std::max(sequence.computed_tokens, end);
  sequence.planned_tokens = end;
  ++sequence.in_flight;
  under_way.touched.push_back(chunk.member);
  plan.sequences.push_back(step);
  parts_.push_back({&group, chunk.count});
  return step;
}

void Scheduler::EmitPrompt(const Chunk& chunk, StepPlan& plan, UnderWay& under_way) {
  SequenceGroup& group = *chunk.member.group;
  Sequence& sequence = chunk.member.sequence();
  const StepSequence step = EmitSequence(chunk, plan, under_way);
  const auto first = group.prompt.begin() + step.start_position;
  plan.token_ids.insert(plan.token_ids.end(), first, first + chunk.count);
  ++group.prefill_chunks;
  memory_.Remember(group, sequence);
  const int32_t end = sequence.planned_tokens;
  const bool last = end == group.prompt_tokens();
  if (last || end % options_.snapshot_interval == 0) rings_.push_back({chunk.member, end});

  if (group.logprobs.prompt) EmitScores(step, group, plan, under_way);
  if (!last || sequence.planned_outputs > 0) return;
  const int32_t output_row = static_cast<int32_t>(plan.output_tokens.size());
  plan.output_tokens.push_back(step.token_begin + chunk.count - 1);
  for (int32_t choice = 0; choice < group.n; ++choice) {
    EmitSample({&group, choice}, output_row, plan, under_way);
  }
  if (group.n > 1) ForkChoices(&group);
}

void Scheduler::EmitScores(const StepSequence& step, SequenceGroup& group, StepPlan& plan,
                           UnderWay& under_way) {
  const int32_t end = std::min(step.start_position + step.token_count, group.prompt_tokens() - 1);
  for (int32_t position = step.start_position; position < end; ++position) {
    plan.scores.push_back(
        {static_cast<int32_t>(plan.output_tokens.size()), group.prompt[position + 1], group.logprobs.top_n});
    plan.output_tokens.push_back(step.token_begin + position - step.start_position);
  }
  if (end > step.start_position) {
    under_way.scores.push_back({&group, step.start_position + 1, end - step.start_position});
  }
}

void Scheduler::EmitDecode(const Chunk& chunk, StepPlan& plan, UnderWay& under_way) {
  SequenceGroup& group = *chunk.member.group;
  Sequence& sequence = chunk.member.sequence();
  const StepSequence step = EmitSequence(chunk, plan, under_way);
  for (int32_t position = step.start_position; position < sequence.planned_tokens; ++position) {
    const bool known = position < group.KnownTokens(sequence);
    plan.token_ids.push_back(known ? group.TokenAt(sequence, position) : -1 - sequence.last_sample_row);
  }
  memory_.Remember(group, sequence);
  if (TokensToDraw(group, sequence) > 0) return;  // there are more to compute again
  plan.output_tokens.push_back(step.token_begin + chunk.count - 1);
  if (std::exchange(group.last_decode_step, plan.step) != plan.step) ++group.decode_steps;
  waiting_.Charge(group, 1);
  EmitSample(chunk.member, static_cast<int32_t>(plan.output_tokens.size()) - 1, plan, under_way);
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
  const int32_t shared = group->prompt_tokens() / options_.block_tokens;
  for (int32_t choice = 1; choice < group->n; ++choice) {
    Sequence& sequence = group->choices[choice];
    sequence.blocks.insert(sequence.blocks.begin(), source.blocks.begin(), source.blocks.begin() + shared);
    sequence.planned_tokens = source.planned_tokens;
    sequence.computed_tokens = source.computed_tokens;
    sequence.node = source.node;
    sequence.node_blocks = source.node_blocks;
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
    sequence.outputs.push_back(result.samples[i].record.id);
    if (result.samples[i].invalid) sequence.node.reset();  // it leaves nothing to others
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

}  // namespace yoio
