// What a caller asks of the engine: plain data, free of any transport.
#ifndef YOIO_ENGINE_REQUEST_H_
#define YOIO_ENGINE_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "engine/tenant.h"
#include "engine/trace_id.h"

namespace yoio {

// How the next token is drawn (docs/architecture.md, "Sampling"). Every value here is an effective one:
// defaults have been filled in. Limits are checked by Admit() in engine/admission.h.
struct SamplingParams {
  float temperature = 1.0f;         // >= 0; 0 is greedy
  float top_p = 1.0f;               // (0, 1]
  int32_t top_k = 0;                // 0 = off
  float min_p = 0.0f;               // [0, 1]
  float repetition_penalty = 1.0f;  // > 0; prompt and output
  float frequency_penalty = 0.0f;   // [-2, 2]; output only
  float presence_penalty = 0.0f;    // [-2, 2]; output only
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;  // (token id, added to its logit), ids unique

  bool NeedsHistory() const {
    return repetition_penalty != 1.0f || frequency_penalty != 0.0f || presence_penalty != 0.0f;
  }
};

// When a choice ends.
struct StopParams {
  int32_t max_tokens = 1024;  // >= 1, or 0 for a request that only scores its prompt
  int32_t min_tokens = 0;     // stop ids are banned before it
  bool ignore_eos = false;
  std::vector<int32_t> stop_ids;  // beside the model's end-of-sequence ids
  std::vector<std::string> stop_strings;
  bool include_stop = false;  // leave the stop string in the text
};

inline constexpr int kMaxTopLogprobs = 20;

struct LogprobParams {
  bool output = false;  // a log-probability for every generated token
  bool prompt = false;  // and for every prompt token but the first
  int32_t top_n = 0;    // alternatives beside each record
};

// Which requests run first when not all can. A higher class goes before a lower one; who waits rises in time.
enum class Priority { kLow, kNormal, kHigh };

// How the prefix cache is used. Only requests of one tenant with the same salt share cached tokens.
struct CacheParams {
  bool bypass = false;  // neither looks tokens up nor leaves them there
  std::string salt;
};

// What the caller hopes for. The scheduler weighs it; nothing fails because of it. All from arrival, > 0.
struct LatencyTargets {
  std::optional<Duration> time_to_first_token;
  std::optional<Duration> time_per_output_token;
  std::optional<Duration> total;
};

// Values the caller left open are nullopt or absent, and filled in by admission from the model's defaults.
struct Request {
  std::string id;  // chosen by the caller or drawn by the server; unique among live requests of `tenant`
  std::string tenant = "default";
  TenantLimits tenant_limits;  // the newest request's hold for all of the tenant's
  Priority priority = Priority::kNormal;
  CacheParams cache;
  LatencyTargets targets;
  std::variant<std::string, std::vector<int32_t>> prompt;

  std::optional<float> temperature, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty;
  std::optional<int32_t> top_k, max_tokens;
  std::optional<uint64_t> seed;
  std::vector<std::pair<int32_t, float>> logit_bias;
  StopParams stop;  // its max_tokens is set by admission from the field above
  LogprobParams logprobs;
  int32_t n = 1;

  bool score_only = false;  // Score: prompt log-probabilities and nothing else
  bool output_text = true;
  bool output_ids = false;
  bool skip_special_tokens = true;

  TraceId trace;

  TimePoint arrival;                      // when the transport received it
  TimePoint deadline = TimePoint::max();  // then the stream ends with DEADLINE_EXCEEDED
  std::optional<Duration> time_budget;    // then it ends well, with reason TIME_BUDGET
};

}  // namespace yoio

#endif  // YOIO_ENGINE_REQUEST_H_
