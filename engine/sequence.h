// A request as the scheduler sees it: token ids and counts, nothing else.
#ifndef YOIO_ENGINE_SEQUENCE_H_
#define YOIO_ENGINE_SEQUENCE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/block_pool.h"
#include "engine/prefix_cache.h"
#include "engine/request.h"

namespace yoio {

// What a request that waits is waiting for.
enum class WaitCause { kNothing, kSlots, kBlocks, kTokenBudget, kTenantShare };
inline constexpr int kNumWaitCauses = 5;

// One of a group's choices. "Planned" counts what plans say; results follow, with a pipeline of depth d up to
// d steps later. Engine thread only, the scheduler's but for reading.
struct Sequence {
  int32_t slot = -1;              // -1: not admitted, or given way to others since
  std::vector<Block> blocks;      // its table so far, in logical order
  int32_t planned_tokens = 0;     // its next token's position
  int32_t global_from = 0;        // what lies before it is replayed: a prefix hit holds it already
  int32_t computed_tokens = 0;    // the most that planned_tokens has been
  int32_t planned_outputs = 0;    // tokens that some plan has drawn
  std::vector<int32_t> outputs;   // those that have been delivered
  int64_t last_sample_step = -1;  // where the newest planned one is drawn
  int32_t last_sample_row = -1;
  int32_t in_flight = 0;  // steps under way that touch it
  bool ended = false;     // never planned again; slot and blocks return once in_flight is 0

  std::optional<PrefixCache::Node> node;  // the prefix of its first node_blocks blocks; none: it leaves none
  int32_t node_blocks = 0;

  int32_t charged_blocks = 0;        // of its tenant's share
  std::vector<int32_t> host_blocks;  // places on the host, while it is swapped out
  int32_t host_ring = -1;

  // The newest drawn token is known.
  bool known() const { return static_cast<size_t>(planned_outputs) == outputs.size(); }
};

// The n choices of one request, which share a prompt. Engine thread only. Owned by the engine, which keeps it
// alive until Scheduler::TakeRetired has returned it.
struct SequenceGroup {
  virtual ~SequenceGroup() = default;

  std::vector<int32_t> prompt;
  SamplingParams sampling;
  LogprobParams logprobs;
  std::vector<int32_t> stop_ids;  // end-of-sequence ids among them, unless ignored
  int32_t min_tokens = 0;
  int32_t max_tokens = 0;
  bool score_only = false;
  int32_t n = 1;

  std::string tenant;
  TenantLimits tenant_limits;
  Priority priority = Priority::kNormal;
  TimePoint arrival{};
  TimePoint due = TimePoint::max();  // by when its next token is wanted: deadlines and targets, for the order
  CacheParams cache;

  bool paused = false;  // set by the engine: its reader is behind

  // Filled by the scheduler.
  std::vector<Sequence> choices;                  // from its admission on; choices[0] runs the prompt
  std::array<Duration, kNumWaitCauses> waited{};  // by WaitCause, in all its times in the queue
  int32_t cached_tokens = 0;      // of the prompt: the prefix cache had them when it was first admitted
  int32_t risen = 0;              // classes, by waiting
  int32_t recomputed_tokens = 0;  // computed again after a preemption
  int32_t preemptions = 0;
  int32_t prefill_chunks = 0;
  int32_t decode_steps = 0;  // steps that drew a token after the first, whatever the number of choices
  int64_t last_decode_step = -1;
  TimePoint first_scheduled{};

  int32_t prompt_tokens() const { return static_cast<int32_t>(prompt.size()); }
  // Prompt tokens that run: the last one only matters to what follows it.
  int32_t prompt_tokens_to_run() const { return prompt_tokens() - (score_only ? 1 : 0); }
  // Tokens one choice can cache: the last token drawn is never fed.
  int32_t max_cached_tokens() const { return prompt_tokens() + (max_tokens > 0 ? max_tokens - 1 : 0); }
  // Several choices are tied by their shared blocks, and prompt log-probabilities are delivered once: such a
  // request takes at admission all that it can need, and never gives way.
  bool preemptible() const { return n == 1 && !logprobs.prompt; }
  // The token at `position` of a choice: given, or delivered.
  int32_t TokenAt(const Sequence& sequence, int32_t position) const {
    return position < prompt_tokens() ? prompt[position] : sequence.outputs[position - prompt_tokens()];
  }
  int32_t KnownTokens(const Sequence& sequence) const {
    return prompt_tokens() + static_cast<int32_t>(sequence.outputs.size());
  }
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SEQUENCE_H_
