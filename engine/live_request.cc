#include "engine/live_request.h"

#include <algorithm>

namespace yoio {

namespace {

Timing TimingOf(const LiveRequest& live, TimePoint now) {
  Timing timing;
  const TimePoint arrival = live.request.arrival;
  timing.tokenize = live.tokenized - arrival;
  timing.total = now - arrival;
  timing.queue_length_on_arrival = live.queue_length_on_arrival;
  if (live.responder != nullptr) timing.blocked_on_client = live.responder->blocked();
  if (live.first_scheduled == TimePoint{}) {
    timing.queue = now - live.accepted;
    return timing;
  }
  timing.queue = live.first_scheduled - live.accepted;
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

SummaryEvent SummaryOf(const LiveRequest& live, TimePoint now) {
  SummaryEvent summary;
  summary.usage.prompt_tokens = static_cast<int32_t>(live.prompt.size());
  summary.timing = TimingOf(live, now);
  return summary;
}

}  // namespace yoio
