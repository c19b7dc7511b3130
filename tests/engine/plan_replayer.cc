#include "tests/engine/plan_replayer.h"

#include <algorithm>
#include <set>
#include <utility>

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
      layers_(std::max(1, options.replay_tokens / window)),
      blocks_(options.num_blocks, Cells(options.block_tokens)),
      holders_(options.num_blocks, 0),
      rings_(options.max_sequences + options.num_snapshots, Cells(options.ring_tokens)),
      host_blocks_(options.host_blocks),
      host_rings_(options.host_rings),
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
  CopyOut(plan);
  ReleaseAndAdmit(plan);
  CopyIn(plan);

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
      Write(sequence, plan.positions[token], id, token >= plan.num_prompt_tokens);
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
    const Cells cells = context_of(row.output_row);
    const std::vector<int32_t> context = IdsOf(cells);
    const auto generated =
        std::find_if(cells.begin(), cells.end(), [](const Cell& cell) { return cell.generated; });
    result.samples.push_back({{.id = FakeToken(context, row.sample_index),
                               .logprob = FakeLogprob(context),
                               .top = {{static_cast<int32_t>(generated - cells.begin()), 0}}}});
    previous_samples_.push_back(result.samples.back().record.id);
  }
  for (const ScoreRow& row : plan.scores) {
    result.scores.push_back({row.target, FakeLogprob(IdsOf(context_of(row.output_row))), {}});
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
      EXPECT_LE(sequence.token_count, kMaxCaughtUpTokens);
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

// Copies that read what slots held before this plan.
void PlanReplayer::CopyOut(const StepPlan& plan) {
  std::set<int32_t> written;
  for (const BlockCopy& copy : plan.swap_out_blocks) {
    EXPECT_TRUE(written.insert(copy.destination).second) << "two blocks to one place";
    EXPECT_GE(blocks_[copy.source][0].position, 0) << "nothing is there to be swapped out";
    host_blocks_[copy.destination] = blocks_[copy.source];
  }
  written.clear();
  for (const BlockCopy& copy : plan.swap_out_rings) {
    EXPECT_TRUE(written.insert(copy.destination).second) << "two rings to one place";
    EXPECT_TRUE(admitted_[copy.source]);
    host_rings_.at(copy.destination) = rings_[copy.source];
  }
  written.clear();
  for (const BlockCopy& copy : plan.ring_saves) {
    EXPECT_TRUE(written.insert(copy.destination).second) << "two rings to one snapshot";
    EXPECT_TRUE(admitted_[copy.source]);
    EXPECT_GE(copy.destination, options_.max_sequences);
    rings_.at(copy.destination) = rings_[copy.source];
  }
}

void PlanReplayer::CopyIn(const StepPlan& plan) {
  std::set<int32_t> written;
  for (const BlockCopy& copy : plan.block_copies) {
    EXPECT_EQ(holders_[copy.destination], 0) << "a copy onto a block in use";
    EXPECT_TRUE(written.insert(copy.destination).second);
    EXPECT_FALSE(written.contains(copy.source)) << "copies run in any order";
    blocks_[copy.destination] = blocks_[copy.source];
  }
  written.clear();
  for (const BlockCopy& copy : plan.ring_copies) {
    EXPECT_TRUE(admitted_.at(copy.destination));
    EXPECT_TRUE(copy.source >= options_.max_sequences || admitted_[copy.source]);
    EXPECT_TRUE(written.insert(copy.destination).second);
    EXPECT_FALSE(written.contains(copy.source)) << "copies run in any order";
    rings_[copy.destination] = rings_[copy.source];
  }
  for (const BlockCopy& copy : plan.swap_in_blocks) {
    EXPECT_EQ(holders_[copy.destination], 0) << "a copy onto a block in use";
    EXPECT_FALSE(host_blocks_.at(copy.source).empty()) << "nothing is there to be swapped in";
    blocks_[copy.destination] = std::exchange(host_blocks_[copy.source], {});
  }
  for (const BlockCopy& copy : plan.swap_in_rings) {
    EXPECT_TRUE(admitted_.at(copy.destination));
    EXPECT_FALSE(host_rings_.at(copy.source).empty()) << "nothing is there to be swapped in";
    rings_[copy.destination] = std::exchange(host_rings_[copy.source], {});
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
        EXPECT_EQ(blocks_[block][offset].position, first + offset) << "only full blocks are shared";
      }
    }
    table.push_back(block);
  }
  const int32_t end = sequence.start_position + sequence.token_count;
  EXPECT_EQ(static_cast<int32_t>(table.size()), (end + options_.block_tokens - 1) / options_.block_tokens);
}

void PlanReplayer::Write(const StepSequence& sequence, int32_t position, int32_t id, bool generated) {
  EXPECT_TRUE(id >= 0 && id < kFakeVocab) << id;
  const int32_t block = tables_[sequence.slot].at(position / options_.block_tokens);
  const int32_t offset = position % options_.block_tokens;
  Cells& cells = blocks_[block];
  if (position < sequence.global_from) {
    EXPECT_EQ(cells[offset].position, position) << "replays what is not there";
    EXPECT_EQ(cells[offset].id, id) << "replays another token";
  } else {
    EXPECT_EQ(holders_[block], 1) << "a shared block is written";
    // A block begins anew at its first token: nothing of an earlier life is read by mistake.
    if (offset == 0) std::fill(cells.begin(), cells.end(), Cell{});
    cells[offset] = {position, id, generated};
  }
  WriteRing(sequence, {position, id, generated});
}

// The k-th window layer is exact at a position when the layer before it is at every position of the window.
void PlanReplayer::WriteRing(const StepSequence& sequence, const Cell& written) {
  if (options_.ring_tokens == 0) return;  // no layer has a window
  Cells& ring = rings_[sequence.slot];
  const int32_t position = written.position;
  Cell& cell = ring[position % options_.ring_tokens];
  cell = written;
  cell.layers = layers_;
  for (int32_t seen = std::max(0, position - window_ + 1); seen < position; ++seen) {
    const Cell& other = ring[seen % options_.ring_tokens];
    cell.layers = std::min(cell.layers, 1 + (other.position == seen ? other.layers : 0));
  }
  if (position < sequence.global_from) return;
  for (int32_t seen = std::max(0, position - window_ + 1); seen <= position; ++seen) {
    const Cell& other = ring[seen % options_.ring_tokens];
    EXPECT_EQ(other.position, seen) << "the window of slot " << sequence.slot << " has a gap";
    EXPECT_EQ(other.layers, layers_) << "too few tokens were replayed before " << position;
    const int32_t global = tables_[sequence.slot].at(seen / options_.block_tokens);
    EXPECT_EQ(other.id, blocks_[global][seen % options_.block_tokens].id) << "ring and blocks differ";
  }
}

PlanReplayer::Cells PlanReplayer::Context(int32_t slot, int32_t position) const {
  Cells context;
  for (int32_t p = 0; p <= position; ++p) {
    const int32_t block = tables_[slot].at(p / options_.block_tokens);
    context.push_back(blocks_[block][p % options_.block_tokens]);
    EXPECT_EQ(context.back().position, p) << "slot " << slot << " reads what nobody wrote";
  }
  return context;
}

std::vector<int32_t> PlanReplayer::IdsOf(const Cells& cells) {
  std::vector<int32_t> ids;
  for (const Cell& cell : cells) ids.push_back(cell.id);
  return ids;
}

}  // namespace yoio::test
