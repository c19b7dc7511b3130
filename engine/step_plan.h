// One step of the engine as flat plain data: what the scheduler decides and every rank executes alike.
#ifndef YOIO_ENGINE_STEP_PLAN_H_
#define YOIO_ENGINE_STEP_PLAN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/event.h"
#include "engine/request.h"

namespace yoio {

// A sequence slot begins a new life. Rank-local state of the slot's former sequence is forgotten.
struct SlotAdmission {
  int32_t slot;
  SamplingParams sampling;
  std::vector<int32_t> stop_ids;  // banned while output position < min_tokens; end-of-sequence ids among them
  int32_t min_tokens = 0;
  std::vector<int32_t> prompt_ids;  // only when a penalty needs them
  std::vector<int32_t> output_ids;  // generated before, on re-admission, when a penalty needs them
};

// Consecutive tokens of one sequence in this step.
struct StepSequence {
  int32_t slot;
  int32_t token_begin;      // index into StepPlan::token_ids
  int32_t token_count;      // >= 1
  int32_t start_position;   // logical position of the first of them
  int32_t new_block_begin;  // the blocks that join this slot's table: a range of StepPlan::new_blocks
  int32_t new_block_count;
  // Tokens at positions before it are replayed: they pass through the layers that run all tokens and write
  // the window group only, because the global group holds them already.
  int32_t global_from = 0;
};

// A copy of a block or a ring, by ids. The copies of a step are done before anything else in it, in the order
// of the lists in StepPlan; those of one list at once, so that none reads what another of them writes.
struct BlockCopy {
  int32_t source;
  int32_t destination;
};

// Draws one token from one output row.
struct SampleRow {
  int32_t output_row;
  int32_t slot;             // whose sampling parameters and history
  int32_t sample_index;     // which of the request's n choices
  int32_t output_position;  // 0 for the first generated token
  bool logprob;
  int32_t top_n;
};

// Reads the log-probability of one given token from one output row.
struct ScoreRow {
  int32_t output_row;
  int32_t target;
  int32_t top_n;
};

struct StepPlan {
  int64_t step = 0;
  std::vector<int32_t> released_slots;
  std::vector<SlotAdmission> admitted;
  // Ids of blocks are those of the global group. Ids of rings: sequence slots, then snapshots
  // (CacheGeometry). Ids on the host are places in its memory for preempted sequences.
  std::vector<BlockCopy> swap_out_blocks;  // block -> block on the host
  std::vector<BlockCopy> swap_out_rings;   // slot -> ring on the host
  std::vector<BlockCopy> ring_saves;       // slot -> snapshot
  std::vector<BlockCopy> block_copies;     // block -> block
  std::vector<BlockCopy> ring_copies;      // slot or snapshot -> slot
  std::vector<BlockCopy> swap_in_blocks;   // block on the host -> block
  std::vector<BlockCopy> swap_in_rings;    // ring on the host -> slot
  // At most one for each slot. Those with prompt tokens first; no sequence has tokens of both kinds.
  std::vector<StepSequence> sequences;
  std::vector<int32_t> new_blocks;  // block ids of the global group

  // Prompt tokens first, then generated ones: the two run through different products (invariant I5). A
  // generated token that is computed again after a preemption is still a generated one.
  std::vector<int32_t> token_ids;  // an id, or -1 - r: the token sampled in sample row r of the previous step
  std::vector<int32_t> positions;
  int32_t num_prompt_tokens = 0;

  std::vector<int32_t> output_tokens;  // ascending indices of tokens whose logits somebody needs
  std::vector<SampleRow> samples;
  std::vector<ScoreRow> scores;

  bool empty() const { return token_ids.empty(); }
};

struct SampledToken {
  TokenRecord record;
  bool invalid = false;  // a logit was NaN: the request ends INTERNAL and record is meaningless
};

struct StepResult {
  int64_t step = 0;
  std::vector<SampledToken> samples;  // as StepPlan::samples
  std::vector<TokenRecord> scores;    // as StepPlan::scores
};

// The plan as bytes and back, for ranks that are not threads of this process. A fixed layout of little-endian
// words (engine/step_plan.cc), whose first word names its version: ranks of different builds do not
// understand each other, and say so. Equal plans give equal bytes.
std::string Serialize(const StepPlan& plan);

// INVALID_ARGUMENT when the bytes are not a plan: truncated, too long, of another version, or with counts and
// indices that contradict each other, so that whoever walks the plan stays inside its arrays. Slots, block
// and token ids are not checked: their bounds are the worker's.
absl::StatusOr<StepPlan> DeserializeStepPlan(std::string_view bytes);

}  // namespace yoio

#endif  // YOIO_ENGINE_STEP_PLAN_H_
