#include "tests/engine/plan_replayer.h"

#include <algorithm>
#include <set>

#include "gtest/gtest.h"

namespace yoio::test {

uint64_t ContextHash(const std::vector<int32_t>& context) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const int32_t id : context) hash = (hash ^ static_cast<uint64_t>(id + 1)) * 0x100000001b3u;
  return hash ^ (hash >> 29);
}

int32_t FakeToken(const std::vector<int32_t>& context, int32_t sample_index) {
  return static_cast<int32_t>((ContextHash(context) + 7919u * sample_index) % kFakeVocab);
}

float FakeLogprob(const std::vector<int32_t>& context) {
  return -static_cast<float>(ContextHash(context) % 10007) / 1000;
}

PlanReplayer::PlanReplayer(const SchedulerOptions& options, int32_t window)
    : options_(options),
      window_(window),
      ring_tokens_(((window + options.block_tokens - 1) / options.block_tokens + 1) * options.block_tokens),
      cache_(static_cast<size_t>(options.num_blocks) * options.block_tokens),
      holders_(options.num_blocks, 0),
      rings_(options.max_sequences, std::vector<Cell>(ring_tokens_)),
      tables_(options.max_sequences),
      admitted_(options.max_sequences, false) {}

std::map<int32_t, int32_t> PlanReplayer::TokensBySlot(const StepPlan& plan) {
  std::map<int32_t, int32_t> tokens;
  for (const StepSequence& sequence : plan.sequences) tokens[sequence.slot] += sequence.token_count;
  return tokens;
}

StepResult PlanReplayer::Run(const StepPlan& plan) {
  EXPECT_EQ(plan.step, next_step_++) << "steps are numbered without gaps";
  CheckShape(plan);
  ReleaseAndAdmit(plan);
  Copy(plan);

  std::vector<std::pair<int32_t, int32_t>> places;  // (slot, position) of each token
  for (const StepSequence& sequence : plan.sequences) {
    ExtendTable(sequence, plan);
    for (int32_t i = 0; i < sequence.token_count; ++i) {
      const int32_t token = sequence.token_begin + i;
      int32_t id = plan.token_ids[token];
      if (id < 0) {
        EXPECT_LT(-1 - id, static_cast<int32_t>(previous_samples_.size()))
            << "no such row in the previous step";
        id = previous_samples_.at(-1 - id);
      }
      EXPECT_EQ(plan.positions[token], sequence.start_position + i);
      Write(sequence.slot, plan.positions[token], id);
      places.emplace_back(sequence.slot, plan.positions[token]);
    }
  }

  StepResult result{.step = plan.step, .samples = {}, .scores = {}};
  previous_samples_.clear();
  const auto context_of = [&](int32_t output_row) {
    const auto& [slot, position] = places[plan.output_tokens[output_row]];
    return Context(slot, position);
  };
  for (const SampleRow& row : plan.samples) {
    EXPECT_TRUE(admitted_[row.slot]) << "draws for a slot without sampling parameters";
    const std::vector<int32_t> context = context_of(row.output_row);
    result.samples.push_back({{FakeToken(context, row.sample_index), FakeLogprob(context), {}}});
    previous_samples_.push_back(result.samples.back().record.id);
  }
  for (const ScoreRow& row : plan.scores) {
    result.scores.push_back({row.target, FakeLogprob(context_of(row.output_row)), {}});
  }
  return result;
}

void PlanReplayer::CheckShape(const StepPlan& plan) const {
  const int32_t tokens = static_cast<int32_t>(plan.token_ids.size());
  EXPECT_GT(tokens, 0);
  EXPECT_LE(tokens, options_.max_step_tokens);
  EXPECT_LE(static_cast<int32_t>(plan.output_tokens.size()), options_.max_output_rows);
  EXPECT_EQ(plan.positions.size(), plan.token_ids.size());
  EXPECT_LE(plan.num_prompt_tokens, tokens);

  std::set<int32_t> slots;
  int32_t next_token = 0, next_block = 0;
  for (const StepSequence& sequence : plan.sequences) {
    EXPECT_TRUE(slots.insert(sequence.slot).second) << "slot " << sequence.slot << " runs twice in one step";
    EXPECT_GE(sequence.token_count, 1);
    EXPECT_EQ(sequence.token_begin, next_token) << "tokens are dealt out in order";
    EXPECT_EQ(sequence.new_block_begin, next_block) << "blocks are dealt out in order";
    next_token += sequence.token_count;
    next_block += sequence.new_block_count;
    const bool prompt = sequence.token_begin < plan.num_prompt_tokens;
    if (prompt) {
      EXPECT_LE(next_token, plan.num_prompt_tokens) << "a sequence is prompt or decode";
    } else {
      EXPECT_EQ(sequence.token_count, 1);
    }
  }
  EXPECT_EQ(next_token, tokens);
  EXPECT_EQ(next_block, static_cast<int32_t>(plan.new_blocks.size()));

  const auto ascending = [](int32_t a, int32_t b) { return a >= b; };
  EXPECT_EQ(std::adjacent_find(plan.output_tokens.begin(), plan.output_tokens.end(), ascending),
            plan.output_tokens.end());
  EXPECT_TRUE(std::is_sorted(plan.samples.begin(), plan.samples.end(),
                             [](const auto& a, const auto& b) { return a.output_row < b.output_row; }));
  EXPECT_TRUE(std::is_sorted(plan.scores.begin(), plan.scores.end(),
                             [](const auto& a, const auto& b) { return a.output_row < b.output_row; }));
  std::set<int32_t> read;
  for (const SampleRow& row : plan.samples) read.insert(row.output_row);
  for (const ScoreRow& row : plan.scores) read.insert(row.output_row);
  EXPECT_EQ(read.size(), plan.output_tokens.size()) << "an output row that nobody reads";
}

void PlanReplayer::ReleaseAndAdmit(const StepPlan& plan) {
  for (const int32_t slot : plan.released_slots) {
    EXPECT_TRUE(admitted_[slot]) << "slot " << slot << " is released twice";
    admitted_[slot] = false;
    // What the blocks hold stays: a fork whose table has not been sent yet may share them.
    for (const int32_t block : tables_[slot]) --holders_[block];
    tables_[slot].clear();
    std::fill(rings_[slot].begin(), rings_[slot].end(), Cell{});
  }
  for (const SlotAdmission& admission : plan.admitted) {
    EXPECT_FALSE(admitted_[admission.slot]) << "slot " << admission.slot << " is in use";
    admitted_[admission.slot] = true;
  }
}

void PlanReplayer::Copy(const StepPlan& plan) {
  std::set<int32_t> written;
  for (const BlockCopy& copy : plan.block_copies) {
    EXPECT_EQ(holders_[copy.destination], 0) << "a copy onto a block in use";
    EXPECT_TRUE(written.insert(copy.destination).second);
    EXPECT_FALSE(written.contains(copy.source)) << "copies run in any order";
    for (int32_t i = 0; i < options_.block_tokens; ++i)
      BlockCell(copy.destination, i) = BlockCell(copy.source, i);
  }
  written.clear();
  for (const BlockCopy& copy : plan.ring_copies) {
    EXPECT_TRUE(admitted_[copy.source] && admitted_[copy.destination]);
    EXPECT_TRUE(written.insert(copy.destination).second);
    EXPECT_FALSE(written.contains(copy.source)) << "copies run in any order";
    rings_[copy.destination] = rings_[copy.source];
  }
}

void PlanReplayer::ExtendTable(const StepSequence& sequence, const StepPlan& plan) {
  EXPECT_TRUE(admitted_[sequence.slot]) << "slot " << sequence.slot << " was never admitted";
  std::vector<int32_t>& table = tables_[sequence.slot];
  for (int32_t i = 0; i < sequence.new_block_count; ++i) {
    const int32_t block = plan.new_blocks[sequence.new_block_begin + i];
    EXPECT_TRUE(block >= 0 && block < options_.num_blocks);
    EXPECT_EQ(std::count(table.begin(), table.end(), block), 0) << "a block twice in one table";
    if (++holders_[block] > 1) {
      const int32_t first = static_cast<int32_t>(table.size()) * options_.block_tokens;
      for (int32_t offset = 0; offset < options_.block_tokens; ++offset) {
        EXPECT_EQ(BlockCell(block, offset).position, first + offset) << "only full blocks are shared";
      }
    }
    table.push_back(block);
  }
  const int32_t end = sequence.start_position + sequence.token_count;
  EXPECT_EQ(static_cast<int32_t>(table.size()), (end + options_.block_tokens - 1) / options_.block_tokens);
}

void PlanReplayer::Write(int32_t slot, int32_t position, int32_t id) {
  EXPECT_TRUE(id >= 0 && id < kFakeVocab) << id;
  const int32_t block = tables_[slot].at(position / options_.block_tokens);
  EXPECT_EQ(holders_[block], 1) << "a shared block is written";
  BlockCell(block, position % options_.block_tokens) = {position, id};
  std::vector<Cell>& ring = rings_[slot];
  ring[position % ring_tokens_] = {position, id};
  for (int32_t seen = std::max(0, position - window_ + 1); seen <= position; ++seen) {
    const Cell& cell = ring[seen % ring_tokens_];
    EXPECT_EQ(cell.position, seen) << "the window of slot " << slot << " has a gap";
    const int32_t global = tables_[slot].at(seen / options_.block_tokens);
    EXPECT_EQ(cell.id, BlockCell(global, seen % options_.block_tokens).id) << "ring and blocks differ";
  }
}

std::vector<int32_t> PlanReplayer::Context(int32_t slot, int32_t position) const {
  std::vector<int32_t> context;
  for (int32_t p = 0; p <= position; ++p) {
    const Cell& cell = BlockCell(tables_[slot].at(p / options_.block_tokens), p % options_.block_tokens);
    EXPECT_EQ(cell.position, p) << "slot " << slot << " reads what nobody wrote";
    context.push_back(cell.id);
  }
  return context;
}

}  // namespace yoio::test
