#include "engine/roster.h"

#include <algorithm>
#include <utility>

#include "engine/errors.h"

namespace yoio {
namespace {

// How soon a request whose reader has caught up is noticed when nothing else runs.
constexpr Duration kPausedPoll = std::chrono::milliseconds(5);
// By how much a prompt counts less with every later one.
constexpr double kForgetting = 1.0 / 16;

// Tokens of its prompt that no plan has computed.
int32_t PromptLeft(const LiveRequest& live) {
  const int32_t planned = live.choices.empty() ? 0 : live.choices[0].planned_tokens;
  return std::max(live.prompt_tokens_to_run() - planned, 0);
}

}  // namespace

void Roster::Add(const std::shared_ptr<LiveRequest>& live, TimePoint now) {
  live->last_event = now;
  const Request& request = live->request;
  live->number = recorder_.Accepted(request.id, request.tenant, request.trace, request.arrival);
  live->queue_length_on_arrival = scheduler_.num_waiting();
  live_.emplace(live.get(), live);
  live->responder->Accept({.request_id = request.id,
                           .number = live->number,
                           .prompt_tokens = static_cast<int32_t>(live->prompt.size()),
                           .sampling = live->sampling,
                           .max_tokens = live->max_tokens,
                           .n = live->n});
  scheduler_.Add(live.get());
  live->queue_position_on_arrival = scheduler_.QueuePosition(live.get());
  unstarted_.push_back(live.get());
  LookAt(*live, now);
}

void Roster::NotePlan(const StepPlan& plan) {
  if (!plan.admitted.empty()) {
    std::erase_if(unstarted_, [this](LiveRequest* live) {
      const bool started = live->first_scheduled != TimePoint{};
      if (started) Started(*live);
      return started;
    });
  }
  if (plan.num_prompt_tokens == 0) return;
  std::erase_if(prompts_, [this](LiveRequest* live) {
    const int32_t left = PromptLeft(*live);
    gate_.Computed(live->place, left);
    return left == 0;
  });
}

void Roster::Started(LiveRequest& live) {
  gate_.Started(live.place);
  prompts_.push_back(&live);
  const double tokens = static_cast<double>(live.prompt.size());
  recent_prompts_ += tokens - recent_prompts_ * kForgetting;
  recent_uncached_ += tokens - live.cached_tokens - recent_uncached_ * kForgetting;
  counts_.cached_tokens += live.cached_tokens;
}

void Roster::NoteDelivery(LiveRequest& live, TimePoint now) {
  live.last_event = now;
  UpdateDue(live);
  if (live.paused || !live.responder->full()) return;
  live.paused = true;
  paused_.push_back(&live);
}

TimePoint Roster::Police(TimePoint now) {
  std::erase_if(paused_, [](LiveRequest* live) {
    live->paused = live->responder->full();
    return !live->paused;
  });
  for (size_t i = paused_.size(); i-- > 0;) {  // backwards: who ends leaves the list
    const auto full_since = paused_[i]->responder->full_since();
    if (!full_since.has_value() || now - *full_since < options_.stall_timeout) continue;
    Fail(*paused_[i], WithReason(absl::StatusCode::kAborted, kReasonSlowReader,
                                 "the reader fell behind for longer than --stall-timeout"));
  }
  while (!looks_.empty() && looks_.begin()->first <= now) {
    LiveRequest& live = *looks_.begin()->second;
    if (EndIfOver(live, now)) continue;
    ReportProgress(live, now);
    LookAt(live, std::min({live.request.deadline, live.budget_end,
                           (live.paused ? now : live.last_event) + options_.progress_interval}));
  }
  const TimePoint next = looks_.empty() ? TimePoint::max() : looks_.begin()->first;
  return paused_.empty() ? next : std::min(next, now + kPausedPoll);
}

bool Roster::EndIfOver(LiveRequest& live, TimePoint now) {
  if (now >= live.request.deadline) {
    Fail(live, WithReason(absl::StatusCode::kDeadlineExceeded, kReasonExpired,
                          "the deadline, or the server's --max-request-time, has passed"));
    return true;
  }
  if (now < live.budget_end) return false;
  for (int32_t choice = 0; choice < live.n; ++choice) {
    if (live.choice_open[choice]) live.responder->Finish(choice, {FinishReason::kTimeBudget});
  }
  Complete(live);
  return true;
}

void Roster::ReportProgress(LiveRequest& live, TimePoint now) {
  if (now - live.last_event < options_.progress_interval || live.paused) return;
  live.last_event = now;
  const int32_t position = scheduler_.QueuePosition(&live);
  const int32_t done = live.choices.empty() ? 0 : live.choices[0].planned_tokens;
  live.responder->Progress({.phase = live.PhaseAt(position),
                            .queue_position = position + 1,
                            .prompt_tokens_done = std::min(done, static_cast<int32_t>(live.prompt.size()))});
}

void Roster::LookAt(LiveRequest& live, TimePoint when) {
  looks_.erase({live.next_look, &live});
  live.next_look = when;
  looks_.emplace(when, &live);
}

void Roster::EndChoice(LiveRequest& live, int32_t choice) {
  if (!live.choice_open[choice]) return;
  if (live.open_choices == 1) return Complete(live);
  live.choice_open[choice] = false;
  --live.open_choices;
  scheduler_.End(&live, choice);
}

void Roster::Complete(LiveRequest& live) {
  ++counts_.completed;
  live.responder->Complete(Close(live, absl::OkStatus()));
}

void Roster::Fail(LiveRequest& live, absl::Status status) {
  if (live.open_choices == 0) return;
  ++(absl::IsCancelled(status) ? counts_.cancelled : counts_.failed);
  SummaryEvent so_far = Close(live, status);
  live.responder->Fail(std::move(status), std::move(so_far));
}

SummaryEvent Roster::Close(LiveRequest& live, const absl::Status& status) {
  live.open_choices = 0;
  live.choice_open.assign(live.n, false);
  scheduler_.EndAll(&live);
  looks_.erase({live.next_look, &live});
  if (live.first_scheduled == TimePoint{}) std::erase(unstarted_, &live);
  std::erase(prompts_, &live);
  if (live.paused) std::erase(paused_, &live);
  counts_.preemptions += live.preemptions;
  gate_.Leave(live.place);
  registry_.Remove(live);
  const TimePoint now = Clock::now();
  SummaryEvent summary = SummaryOf(live, now);
  recorder_.Ended(live.number, status, summary, now);
  return summary;
}

void Roster::FailAll(const absl::Status& status) {
  std::vector<std::shared_ptr<LiveRequest>> requests;
  for (const auto& [group, live] : live_) requests.push_back(live);
  for (const auto& live : requests) Fail(*live, status);
}

std::vector<RequestState> Roster::States(int32_t most, TimePoint now) {
  std::vector<std::shared_ptr<LiveRequest>> requests = registry_.All();
  std::sort(requests.begin(), requests.end(),
            [](const auto& a, const auto& b) { return a->request.arrival < b->request.arrival; });
  if (most < std::ssize(requests)) requests.resize(std::max(most, 0));
  std::vector<RequestState> states;
  states.reserve(requests.size());
  for (const auto& live : requests) {
    if (Contains(*live)) {
      states.push_back(StateOf(*live, scheduler_.QueuePosition(live.get()), now));
    } else {  // the text pool's: it will come after all that wait
      states.push_back({.id = live->request.id,
                        .tenant = live->request.tenant,
                        .age = now - live->request.arrival,
                        .phase = Phase::kQueued,
                        .queue_position = scheduler_.num_waiting() + 1});
    }
  }
  return states;
}

void Roster::ForgetRetired() {
  for (SequenceGroup* group : scheduler_.TakeRetired()) live_.erase(group);
}

}  // namespace yoio
