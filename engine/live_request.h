// A request between Submit and its last event.
#ifndef YOIO_ENGINE_LIVE_REQUEST_H_
#define YOIO_ENGINE_LIVE_REQUEST_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/flight_recorder.h"
#include "engine/queue_gate.h"
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
  QueueGate::Place place;
  RequestNumber number = 0;  // once it is queued

  std::vector<bool> choice_open;  // [n]
  int32_t open_choices = 0;
  absl::Status cancelled;  // why it ends as soon as it arrives
  int32_t scored = 0;      // prompt tokens whose scores were delivered

  TimePoint budget_end = TimePoint::max();
  TimePoint next_look = TimePoint::max();  // when the engine looks at it though nothing has happened
  TimePoint tokenizing{};                  // since when; the arrival when the prompt came as ids
  TimePoint tokenized{};
  TimePoint first_token{};
  TimePoint last_token{};
  TimePoint last_event{};  // when the caller last heard of it
  Duration longest_gap{};
  int64_t longest_gap_step = 0;
  std::vector<int32_t> tokens_of_choice;  // [n]
  int32_t queue_length_on_arrival = 0;
  int32_t queue_position_on_arrival = 0;
  int64_t noted_step = -1;  // the last step it was in, and its place among the members of that
  size_t noted_member = 0;

  int32_t completion_tokens() const;
  // `position` is its place in the queue, -1 when it does not wait.
  Phase PhaseAt(int32_t position) const;
};

// Fills in when the request has to end: at its deadline or after `max_request_time`, whichever is first, or
// well at the end of its budget. Then `due`.
void SetTimes(LiveRequest& live, Duration max_request_time);

// By when its next token is wanted: the earliest of its end and of the caller's targets for the whole, for
// the first token until that has come, and for the next one from then on.
void UpdateDue(LiveRequest& live);

// Usage and timing as of `now`; the responder counts the completion tokens that the caller gets.
SummaryEvent SummaryOf(const LiveRequest& live, TimePoint now);

// `position` as for PhaseAt.
RequestState StateOf(const LiveRequest& live, int32_t position, TimePoint now);

}  // namespace yoio

#endif  // YOIO_ENGINE_LIVE_REQUEST_H_
