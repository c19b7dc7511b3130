#include "engine/live_request.h"

#include <algorithm>
#include <numeric>

#include "absl/container/flat_hash_set.h"

namespace yoio {
namespace {

// Those of all choices, each once: choices share what is their prompt's.
int32_t BlocksOf(const LiveRequest& live) {
  if (live.choices.size() == 1) return static_cast<int32_t>(live.choices[0].blocks.size());
  absl::flat_hash_set<int32_t> ids;
  for (const Sequence& choice : live.choices) {
    for (const Block& block : choice.blocks) ids.insert(block.id());
  }
  return static_cast<int32_t>(ids.size());
}

Timing TimingOf(const LiveRequest& live, TimePoint now) {
  Timing timing;
  const TimePoint arrival = live.request.arrival;
  timing.tokenize = live.tokenized - arrival;
  timing.waited_tokenizer = live.tokenizing - arrival;
  timing.total = now - arrival;
  timing.queue_length_on_arrival = live.queue_length_on_arrival;
  timing.queue_position_on_arrival = live.queue_position_on_arrival;
  if (live.responder != nullptr) timing.blocked_on_client = live.responder->blocked();
  const auto waited = [&](WaitCause cause) { return live.waited[static_cast<size_t>(cause)]; };
  timing.waited_slots = waited(WaitCause::kSlots);
  timing.waited_blocks = waited(WaitCause::kBlocks);
  timing.waited_token_budget = waited(WaitCause::kTokenBudget);
  timing.waited_tenant_share = waited(WaitCause::kTenantShare);
  timing.preemptions = live.preemptions;
  timing.recomputed_tokens = live.recomputed_tokens;
  if (live.first_scheduled == TimePoint{}) {
    timing.queue = now - live.tokenized;
    return timing;
  }
  timing.queue = live.first_scheduled - live.tokenized;
  timing.prefill_chunks = live.prefill_chunks;
  timing.decode_steps = live.decode_steps;
  if (live.first_token == TimePoint{}) {
    timing.prefill = now - live.first_scheduled;
    return timing;
  }
  timing.prefill = live.first_token - live.first_scheduled;
  timing.time_to_first_token = live.first_token - arrival;
  timing.decode = live.last_token - live.first_token;
  const int32_t longest = *std::max_element(live.tokens_of_choice.begin(), live.tokens_of_choice.end());
  if (longest > 1) timing.time_per_output_token = timing.decode / (longest - 1);
  timing.longest_gap = live.longest_gap;
  timing.longest_gap_step = live.longest_gap_step;
  return timing;
}

}  // namespace

int32_t LiveRequest::completion_tokens() const {
  return std::accumulate(tokens_of_choice.begin(), tokens_of_choice.end(), 0);
}

Phase LiveRequest::PhaseAt(int32_t position) const {
  if (position >= 0) return Phase::kQueued;
  return first_token == TimePoint{} ? Phase::kPrefill : Phase::kDecode;
}

void SetTimes(LiveRequest& live, Duration max_request_time) {
  Request& request = live.request;
  request.deadline = std::min(request.deadline, request.arrival + max_request_time);
  // What ends later than that ends nothing, and its sum could overflow.
  const auto sooner = [&](std::optional<Duration>& duration) {
    if (duration.has_value()) duration = std::min(*duration, max_request_time);
  };
  sooner(request.targets.time_to_first_token);
  sooner(request.targets.time_per_output_token);
  sooner(request.targets.total);
  if (request.time_budget.has_value()) {
    live.budget_end = request.arrival + std::min(*request.time_budget, max_request_time);
  }
  UpdateDue(live);
}

void UpdateDue(LiveRequest& live) {
  const LatencyTargets& targets = live.request.targets;
  const TimePoint arrival = live.request.arrival;
  const bool first = live.first_token == TimePoint{};
  live.due = std::min(live.request.deadline, live.budget_end);
  if (targets.total) live.due = std::min(live.due, arrival + *targets.total);
  if (first && targets.time_to_first_token) {
    live.due = std::min(live.due, arrival + *targets.time_to_first_token);
  }
  if (!first && targets.time_per_output_token) {
    live.due = std::min(live.due, live.last_token + *targets.time_per_output_token);
  }
}

SummaryEvent SummaryOf(const LiveRequest& live, TimePoint now) {
  SummaryEvent summary;
  summary.usage.prompt_tokens = static_cast<int32_t>(live.prompt.size());
  summary.usage.cached_tokens = live.cached_tokens;
  summary.usage.completion_tokens = live.completion_tokens();
  summary.timing = TimingOf(live, now);
  return summary;
}

RequestState StateOf(const LiveRequest& live, int32_t position, TimePoint now) {
  const int32_t done = live.choices.empty() ? 0 : live.choices[0].planned_tokens;
  return {.id = live.request.id,
          .tenant = live.request.tenant,
          .age = now - live.request.arrival,
          .phase = live.PhaseAt(position),
          .queue_position = position + 1,
          .prompt_tokens = live.prompt_tokens(),
          .prompt_tokens_done = std::min(done, live.prompt_tokens()),
          .completion_tokens = live.completion_tokens(),
          .blocks = BlocksOf(live),
          .unread_bytes = static_cast<int64_t>(live.outbox->bytes())};
}

}  // namespace yoio
