// A request between Submit and its last event.
#ifndef YOIO_ENGINE_LIVE_REQUEST_H_
#define YOIO_ENGINE_LIVE_REQUEST_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "engine/event.h"
#include "engine/request.h"
#include "engine/responder.h"
#include "engine/sequence.h"

namespace yoio {

// Written by the text pool while it tokenizes, by the engine thread from then on. Shared by both and by the
// registry of live ids.
struct LiveRequest : SequenceGroup {
  Request request;  // its prompt is moved out once tokenized
  std::shared_ptr<Outbox> outbox;
  std::shared_ptr<Responder> responder;  // from the moment it is queued

  std::vector<bool> choice_open;  // [n]
  int32_t open_choices = 0;
  absl::Status cancelled;  // why it ends as soon as it arrives
  int32_t scored = 0;      // prompt tokens whose scores were delivered

  TimePoint budget_end = TimePoint::max();
  TimePoint tokenized{};
  TimePoint accepted{};
  TimePoint first_token{};
  TimePoint last_token{};
  TimePoint last_event{};  // when the caller last heard of it
  Duration longest_gap{};
  int64_t longest_gap_step = 0;
  std::vector<int32_t> tokens_of_choice;  // [n]
  int32_t queue_length_on_arrival = 0;
};

// Usage and timing as of `now`; the responder counts the completion tokens.
SummaryEvent SummaryOf(const LiveRequest& live, TimePoint now);

}  // namespace yoio

#endif  // YOIO_ENGINE_LIVE_REQUEST_H_
