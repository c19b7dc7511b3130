// What the engine tells a caller: plain data, free of any transport. One stream of events per request:
// Accepted, then Delta, PromptScores and Progress in any number, then one Finished per choice, then Summary;
// or an error status at any point. Exactly one of Summary and error ends it (invariant I1).
#ifndef YOIO_ENGINE_EVENT_H_
#define YOIO_ENGINE_EVENT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "engine/request.h"

namespace yoio {

struct TopLogprob {
  int32_t id;
  float logprob;
};

struct TokenRecord {
  int32_t id;
  float logprob = 0;            // from the raw logits; meaningful when log-probabilities were asked for
  std::vector<TopLogprob> top;  // highest first, at most LogprobParams::top_n
};

struct AcceptedEvent {
  std::string request_id;
  uint64_t number = 0;  // in the flight recorder
  int32_t prompt_tokens;
  SamplingParams sampling;  // as they will be used, the seed included
  int32_t max_tokens;
  int32_t n;
};

enum class Phase { kQueued, kPrefill, kDecode };

struct ProgressEvent {
  Phase phase;
  int32_t queue_position;  // 0 once running
  int32_t prompt_tokens_done;
};

// New text and tokens of one choice. Deltas of a choice concatenate to its whole output. Text that may begin
// a stop string comes later than its tokens, and either part may be empty.
struct DeltaEvent {
  int32_t choice;
  std::string text;
  std::vector<TokenRecord> tokens;  // when the caller asked for ids or log-probabilities
  int32_t num_tokens = 0;  // generated tokens that it stands for, whether or not they are in `tokens`
};

// Log-probabilities of consecutive prompt tokens, at most kMaxScoreRecords in one event.
struct PromptScoresEvent {
  int32_t first_position;  // position of the first scored token, >= 1
  std::vector<TokenRecord> tokens;
};

enum class FinishReason { kStop, kEos, kLength, kTimeBudget };

// "time_budget": as in the log, metrics and spans.
constexpr std::string_view NameOf(FinishReason reason) {
  constexpr std::array<std::string_view, 4> kNames = {"stop", "eos", "length", "time_budget"};
  return kNames[static_cast<size_t>(reason)];
}

struct FinishedEvent {
  int32_t choice;
  FinishReason reason;
  std::string matched_stop;  // kStop by string: that string
  int32_t matched_id = -1;   // kStop by id, kEos: that id
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  int32_t completion_tokens = 0;  // over all choices, the ending token included
};

struct Timing {
  Duration tokenize{};               // text pool, before the queue
  Duration queue{};                  // tokenized -> first scheduled
  Duration prefill{};                // first scheduled -> first token sampled
  Duration time_to_first_token{};    // arrival -> first token sampled
  Duration decode{};                 // first token -> last token
  Duration time_per_output_token{};  // decode / (tokens of the longest choice - 1)
  Duration longest_gap{};            // between two steps that gave this request tokens
  int64_t longest_gap_step = 0;
  Duration deliver{};  // last token -> stream closed: text and messages that were still to be sent
  Duration blocked_on_client{};
  Duration total{};
  int32_t prefill_chunks = 0;
  int32_t decode_steps = 0;
  int32_t queue_length_on_arrival = 0;
  int32_t queue_position_on_arrival = 0;  // 0 = next to run
  int32_t preemptions = 0;                // how often it gave way to others
  int32_t recomputed_tokens = 0;          // because of that
  // `queue` and later waits, by what was missing.
  Duration waited_slots{};
  Duration waited_blocks{};
  Duration waited_token_budget{};
  Duration waited_tenant_share{};
  Duration waited_tokenizer{};  // before `queue`
};

struct SummaryEvent {
  Usage usage;
  Timing timing;
};

using Event =
    std::variant<AcceptedEvent, ProgressEvent, DeltaEvent, PromptScoresEvent, FinishedEvent, SummaryEvent>;

inline constexpr int kMaxScoreRecords = 1024;

}  // namespace yoio

#endif  // YOIO_ENGINE_EVENT_H_
