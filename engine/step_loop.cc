#include "engine/step_loop.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <utility>
#include <variant>

#include "engine/errors.h"

namespace yoio {
namespace {

absl::Status NotANumber() { return absl::InternalError("the model produced a logit that is not a number"); }

}  // namespace

StepLoop::StepLoop(const EngineOptions& options, int depth, const TokenGap& gap, Leader& leader,
                   Scheduler& scheduler, Mailbox& mailbox, QueueGate& gate, Registry& registry,
                   StepNotes& notes)
    : depth_(depth),
      first_prediction_(Clock::now() + options.prediction_delay),
      seconds_per_swapped_block_(leader.seconds_per_swapped_block()),
      leader_(leader),
      scheduler_(scheduler),
      mailbox_(mailbox),
      registry_(registry),
      notes_(notes),
      pace_(leader.step_timeout(), gap),
      roster_({options.progress_interval, options.stall_timeout}, scheduler, gate, registry,
              notes.recorder()) {
  Publish();
  thread_ = std::thread([this] { Run(); });
}

Load StepLoop::load() const {
  MutexLock lock(mutex_);
  return load_;
}

Forecast StepLoop::forecast() const {
  MutexLock lock(mutex_);
  return forecast_;
}

absl::Status StepLoop::health() const {
  MutexLock lock(mutex_);
  return health_;
}

void StepLoop::Run() {
  int under_way = 0;
  while (!mailbox_.closed()) {
    TakeCommands();
    const TimePoint next_look = roster_.Police(Clock::now());
    const bool submitted = Submit();
    under_way += submitted;
    const bool idle = !submitted && under_way == 0;
    if (under_way == depth_ || (!submitted && !idle)) {
      Deliver(leader_.Wait());
      --under_way;
    }
    roster_.ForgetRetired();
    Publish();
    if (idle) mailbox_.WaitUntil(next_look);
  }
  for (; under_way > 0; --under_way) Deliver(leader_.Wait());
  roster_.ForgetRetired();
}

bool StepLoop::Submit() {
  const TimePoint begin = Clock::now();
  notes_.SchedulerBegins();
  StepAllowance allowance{.max_prompt_tokens = pace_.MaxPromptTokens(scheduler_.num_decoding() > 0,
                                                                     scheduler_.prompt_tokens_to_run()),
                          .costs = pace_.costs()};
  allowance.costs.seconds_per_swapped_block = seconds_per_swapped_block_;
  StepPlan plan = scheduler_.Next(begin, allowance);
  if (plan.empty()) return false;
  notes_.Planned(plan, scheduler_, begin);
  roster_.NotePlan(plan);
  pace_.Submitted(plan, Clock::now());
  leader_.Submit(std::move(plan));
  return true;
}

void StepLoop::TakeCommands() {
  mailbox_.Take(commands_);
  for (Command& command : commands_) {
    std::visit([this](auto& alternative) { Handle(std::move(alternative)); }, command);
  }
  commands_.clear();
}

void StepLoop::Handle(SubmitCommand command) {
  LiveRequest& live = *command.live;
  roster_.Add(command.live, Clock::now());
  if (!refusal_.ok()) roster_.Fail(live, refusal_);
  if (!live.cancelled.ok()) roster_.Fail(live, std::move(live.cancelled));
}

void StepLoop::Handle(StopCommand command) {
  if (const auto live = command.live.lock()) roster_.EndChoice(*live, command.choice);
}

void StepLoop::Handle(CancelCommand command) {
  if (roster_.Contains(*command.live)) {
    roster_.Fail(*command.live, std::move(command.reason));
  } else {
    command.live->cancelled = std::move(command.reason);  // still tokenizing: it fails as it arrives
  }
}

void StepLoop::Handle(CancelAllCommand command) {
  refusal_ = std::move(command.reason);
  roster_.FailAll(refusal_);
}

void StepLoop::Handle(FailureCommand command) {
  if (!dead_) Die(std::move(command.reason));
}

void StepLoop::Handle(DumpCommand command) {
  EngineState state;
  state.step = notes_.recorder().last_step();
  state.requests = roster_.States(command.max_requests, Clock::now());
  command.answer->Set(std::move(state));
}

void StepLoop::Deliver(absl::StatusOr<StepResult> result) {
  if (dead_) return;
  if (!result.ok()) return Die(result.status());
  const TimePoint now = Clock::now();
  pace_.Ended(now);
  notes_.SchedulerBegins();
  Scheduler::Delivery delivery = scheduler_.Deliver(*result);
  notes_.Delivered(result->step, now);
  for (Scheduler::Scores& scores : delivery.scores) DeliverScores(scores, now);
  for (const Scheduler::Sample& sample : delivery.samples) DeliverSample(sample, result->step, now);
  ++steps_;
}

void StepLoop::DeliverSample(const Scheduler::Sample& sample, int64_t step, TimePoint now) {
  LiveRequest& live = static_cast<LiveRequest&>(*sample.group);
  if (!live.choice_open[sample.choice]) return;
  if (sample.token->invalid) return roster_.Fail(live, NotANumber());
  NoteToken(live, step, now);
  const int32_t count = ++live.tokens_of_choice[sample.choice];
  const int32_t id = sample.token->record.id;

  std::optional<Responder::Ending> ending;
  const auto stops_at = [id](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  if (stops_at(live.request.stop.stop_ids)) {
    ending = {FinishReason::kStop, id};
  } else if (stops_at(live.stop_ids)) {
    ending = {FinishReason::kEos, id};
  } else if (count >= live.max_tokens) {
    ending = {FinishReason::kLength};
  }
  live.responder->Token(sample.choice, std::move(sample.token->record), ending);
  if (ending.has_value()) return roster_.EndChoice(live, sample.choice);
  roster_.NoteDelivery(live, now);
}

void StepLoop::NoteToken(LiveRequest& live, int64_t step, TimePoint now) {
  ++generated_tokens_;
  if (live.first_token == TimePoint{}) {
    live.first_token = now;
    prompt_tokens_ += static_cast<int64_t>(live.prompt.size());
  } else if (const Duration gap = now - live.last_token; gap > Duration::zero()) {  // or another choice
    notes_.TokenGap(gap);
    if (gap > live.longest_gap) {
      live.longest_gap = gap;
      live.longest_gap_step = step;
    }
  }
  live.last_token = now;
}

void StepLoop::DeliverScores(Scheduler::Scores& scores, TimePoint now) {
  LiveRequest& live = static_cast<LiveRequest&>(*scores.group);
  const auto invalid = [](const TokenRecord& token) { return std::isnan(token.logprob); };
  if (std::any_of(scores.tokens.begin(), scores.tokens.end(), invalid)) {
    return roster_.Fail(live, NotANumber());
  }
  live.scored += static_cast<int32_t>(scores.tokens.size());
  int32_t position = scores.first_position;
  for (size_t begin = 0; begin < scores.tokens.size(); begin += kMaxScoreRecords) {
    const size_t end = std::min(begin + kMaxScoreRecords, scores.tokens.size());
    PromptScoresEvent event{position, {}};
    event.tokens.assign(std::make_move_iterator(scores.tokens.begin() + begin),
                        std::make_move_iterator(scores.tokens.begin() + end));
    position += static_cast<int32_t>(end - begin);
    live.responder->PromptScores(std::move(event));
  }
  if (live.score_only && live.scored == static_cast<int32_t>(live.prompt.size()) - 1) {
    prompt_tokens_ += static_cast<int64_t>(live.prompt.size());
    return roster_.EndChoice(live, 0);
  }
  roster_.NoteDelivery(live, now);
}

void StepLoop::Publish() {
  notes_.Publish();
  const Roster::Counts& counts = roster_.counts();
  const bool predicts = pace_.can_predict() && Clock::now() >= first_prediction_;
  MutexLock lock(mutex_);
  load_ = {.free_blocks = scheduler_.free_blocks(),
           .total_blocks = scheduler_.total_blocks(),
           .free_slots = scheduler_.free_slots(),
           .steps = steps_,
           .generated_tokens = generated_tokens_,
           .prompt_tokens = prompt_tokens_,
           .cached_tokens = counts.cached_tokens,
           .cached_blocks = scheduler_.cached_blocks(),
           .preemptions = counts.preemptions,
           .completed = counts.completed,
           .failed = counts.failed,
           .cancelled = counts.cancelled};
  forecast_ = {.seconds_per_prompt_token = predicts ? pace_.costs().seconds_per_prompt_token : 0,
               .uncached_share = roster_.uncached_share()};
}

void StepLoop::Die(absl::Status status) {
  dead_ = true;
  const absl::Status failure = WithReason(absl::StatusCode::kUnavailable, kReasonEngineFailed,
                                          "the engine has failed; this server will restart");
  {
    MutexLock lock(mutex_);
    if (health_.ok()) {
      health_ =
          WithReason(absl::StatusCode::kUnavailable, kReasonEngineFailed, std::string(status.message()));
    }
  }
  registry_.Close(failure);
  refusal_ = failure;
  roster_.FailAll(failure);
}

}  // namespace yoio
