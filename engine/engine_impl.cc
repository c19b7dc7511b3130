#include "engine/engine_impl.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/admission.h"
#include "engine/errors.h"

namespace yoio {
namespace {

// Requests of all tenants between Submit and their last event, tokenizing and waiting ones included.
constexpr size_t kMaxLiveRequests = 4096;
// Room for tokenizing, responding and one unary call for every live request.
constexpr size_t kTextQueue = 4 * kMaxLiveRequests;
// How soon a sequence whose reader has caught up is noticed when nothing else runs.
constexpr Duration kPausedPoll = std::chrono::milliseconds(5);

absl::Status NotANumber() { return absl::InternalError("the model produced a logit that is not a number"); }

}  // namespace

EngineImpl::EngineImpl(EngineParts parts)
    : parts_(std::move(parts)),
      scheduler_(parts_.scheduler),
      pace_(parts_.leader->step_timeout()),
      registry_(kMaxLiveRequests),
      text_pool_(parts_.options.text_threads, kTextQueue) {
  PublishLoad();
  thread_ = std::thread([this] { Run(); });
  // An engine that has nothing to do learns of it too.
  parts_.leader->OnFailure([this](const absl::Status& reason) { mailbox_.Post(FailureCommand{reason}); });
}

EngineImpl::~EngineImpl() {
  const absl::Status reason =
      WithReason(absl::StatusCode::kUnavailable, kReasonDraining, "the server is shutting down");
  registry_.Close(reason);
  mailbox_.Post(CancelAllCommand{reason});
  registry_.WaitUntilEmpty(TimePoint::max());  // those still tokenizing included
  mailbox_.Close();
  thread_.join();
  parts_.leader->OnFailure(nullptr);
}

// --- Any thread ---

absl::Status EngineImpl::Submit(Request request, std::shared_ptr<Outbox> outbox) {
  YOIO_RETURN_IF_ERROR(CheckRequest(request, parts_.model, parts_.limits));
  auto live = std::make_shared<LiveRequest>();
  live->request = std::move(request);
  live->outbox = std::move(outbox);
  YOIO_RETURN_IF_ERROR(registry_.Add(live));
  absl::Status status;
  if (std::holds_alternative<std::vector<int32_t>>(live->request.prompt)) {
    status = Prepare(live);
  } else if (!text_pool_.TryRun([this, live] {
               absl::Status refused = Prepare(live);
               if (refused.ok()) return;
               registry_.Remove(*live);
               live->outbox->End(std::move(refused));
             })) {
    status = WithReason(absl::StatusCode::kResourceExhausted, kReasonQueueFull,
                        "too many prompts are waiting to be tokenized; try again later");
  }
  if (!status.ok()) registry_.Remove(*live);
  return status;
}

absl::Status EngineImpl::Prepare(const std::shared_ptr<LiveRequest>& live) {
  Request& request = live->request;
  std::vector<int32_t> prompt;
  if (auto* ids = std::get_if<std::vector<int32_t>>(&request.prompt)) {
    prompt = std::move(*ids);
  } else {
    YOIO_ASSIGN_OR_RETURN(prompt, parts_.tokenizer->Encode(std::get<std::string>(request.prompt)));
    YOIO_RETURN_IF_ERROR(CheckPrompt(request, prompt, parts_.model));
  }
  request.prompt = std::string();
  Resolve(request, std::move(prompt), parts_.model, *live);
  if (!scheduler_.CanEverRun(*live)) {
    return absl::InvalidArgumentError("prompt, max_tokens and n together need more than the whole cache");
  }
  live->tokenized = Clock::now();
  live->choice_open.assign(live->n, true);
  live->open_choices = live->n;
  live->tokens_of_choice.assign(live->n, 0);
  request.deadline = std::min(request.deadline, request.arrival + parts_.options.max_request_time);
  if (request.time_budget.has_value()) {
    // The sum of a longer one could overflow, and the deadline comes first anyway.
    live->budget_end = request.arrival + std::min(*request.time_budget, parts_.options.max_request_time);
  }

  const ResponderOptions options{.prompt_tokens = static_cast<int32_t>(live->prompt.size()),
                                 .n = live->n,
                                 .output_text = request.output_text && !request.score_only,
                                 .output_ids = request.output_ids || request.logprobs.output,
                                 .skip_special_tokens = request.skip_special_tokens,
                                 .stop = request.stop};
  live->responder =
      std::make_shared<Responder>(options, parts_.tokenizer.get(), text_pool_, live->outbox,
                                  [this, weak = std::weak_ptr<LiveRequest>(live)](int32_t choice) {
                                    mailbox_.Post(StopCommand{weak, choice});
                                  });
  mailbox_.Post(SubmitCommand{live});
  return absl::OkStatus();
}

absl::Status EngineImpl::Cancel(std::string_view tenant, std::string_view request_id, absl::Status reason) {
  std::shared_ptr<LiveRequest> live = registry_.Find(tenant, request_id);
  if (live == nullptr) return absl::NotFoundError("request_id names no live request");
  mailbox_.Post(CancelCommand{std::move(live), std::move(reason)});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> EngineImpl::Tokenize(std::string_view text) const {
  if (parts_.tokenizer == nullptr)
    return absl::UnimplementedError("text needs a tokenizer, and this model has none");
  return parts_.tokenizer->Encode(text);
}

absl::StatusOr<std::string> EngineImpl::Detokenize(const std::vector<int32_t>& ids,
                                                   bool skip_special_tokens) const {
  if (parts_.tokenizer == nullptr)
    return absl::UnimplementedError("text needs a tokenizer, and this model has none");
  const int32_t vocab_size = parts_.model.vocab_size;
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("token_ids must hold token ids in [0, ", vocab_size, "), got ", id));
  }
  return parts_.tokenizer->Decode(ids, skip_special_tokens);
}

absl::Status EngineImpl::RunText(std::function<void()> work) {
  if (text_pool_.TryRun(std::move(work))) return absl::OkStatus();
  return WithReason(absl::StatusCode::kResourceExhausted, kReasonQueueFull,
                    "too much text is waiting to be processed; try again later");
}

Load EngineImpl::load() const {
  MutexLock lock(mutex_);
  return load_;
}

absl::Status EngineImpl::health() const {
  MutexLock lock(mutex_);
  return health_;
}

absl::Status EngineImpl::Drain(TimePoint deadline) {
  registry_.Close(WithReason(absl::StatusCode::kUnavailable, kReasonDraining, "the server is draining"));
  if (registry_.WaitUntilEmpty(deadline)) return absl::OkStatus();
  mailbox_.Post(CancelAllCommand{
      WithReason(absl::StatusCode::kUnavailable, kReasonDraining, "the server's time to drain is over")});
  registry_.WaitUntilEmpty(TimePoint::max());
  return absl::DeadlineExceededError("requests were still running at the end of the drain");
}

// --- Engine thread ---

void EngineImpl::Run() {
  int under_way = 0;
  while (!mailbox_.closed()) {
    TakeCommands();
    const TimePoint next_look = Police(Clock::now());
    StepPlan plan =
        scheduler_.Next(Clock::now(), {.max_prompt_tokens = pace_.MaxPromptTokens(), .costs = {}});
    const bool idle = plan.empty();
    if (!idle) {
      pace_.Submitted(plan, Clock::now());
      parts_.leader->Submit(std::move(plan));
      ++under_way;
    }
    const bool nothing_to_do = idle && under_way == 0;
    if (under_way == parts_.depth || (idle && !nothing_to_do)) {
      Deliver(parts_.leader->Wait());
      --under_way;
    }
    ForgetRetired();
    PublishLoad();
    if (nothing_to_do) mailbox_.WaitUntil(next_look);
  }
  for (; under_way > 0; --under_way) Deliver(parts_.leader->Wait());
  ForgetRetired();
}

void EngineImpl::TakeCommands() {
  mailbox_.Take(commands_);
  for (Command& command : commands_) {
    std::visit([this](auto& alternative) { Handle(std::move(alternative)); }, command);
  }
  commands_.clear();
}

void EngineImpl::Handle(SubmitCommand command) {
  LiveRequest& live = *command.live;
  const TimePoint now = Clock::now();
  live.accepted = now;
  live.last_event = now;
  live.queue_length_on_arrival = scheduler_.num_waiting();
  live_.emplace(&live, command.live);
  live.responder->Accept({.request_id = live.request.id,
                          .prompt_tokens = static_cast<int32_t>(live.prompt.size()),
                          .sampling = live.sampling,
                          .max_tokens = live.max_tokens,
                          .n = live.n});
  scheduler_.Add(&live);
  if (!refusal_.ok()) Fail(live, refusal_);
  if (!live.cancelled.ok()) Fail(live, std::move(live.cancelled));
}

void EngineImpl::Handle(StopCommand command) {
  if (const auto live = command.live.lock()) EndChoice(*live, command.choice);
}

void EngineImpl::Handle(CancelCommand command) {
  LiveRequest& live = *command.live;
  if (live_.contains(&live)) {
    Fail(live, std::move(command.reason));
  } else {
    live.cancelled = std::move(command.reason);  // still tokenizing: it fails as it arrives
  }
}

void EngineImpl::Handle(CancelAllCommand command) {
  refusal_ = std::move(command.reason);
  FailAll(refusal_);
}

void EngineImpl::Handle(FailureCommand command) {
  if (!dead_) Die(std::move(command.reason));
}

TimePoint EngineImpl::Police(TimePoint now) {
  TimePoint next_look = now + parts_.options.progress_interval;
  std::vector<std::shared_ptr<LiveRequest>> requests;  // a copy: requests may end below
  requests.reserve(live_.size());
  for (const auto& [group, live] : live_) requests.push_back(live);
  for (const auto& live : requests) {
    if (live->open_choices == 0) continue;
    const auto full_since = live->responder->full_since();
    if (now >= live->request.deadline) {
      Fail(*live, WithReason(absl::StatusCode::kDeadlineExceeded, kReasonExpired,
                             "the deadline, or the server's --max-request-time, has passed"));
    } else if (now >= live->budget_end) {
      for (int32_t choice = 0; choice < live->n; ++choice) {
        if (live->choice_open[choice]) live->responder->Finish(choice, {FinishReason::kTimeBudget});
      }
      Complete(*live);
    } else if (full_since.has_value() && now - *full_since >= parts_.options.stall_timeout) {
      Fail(*live, WithReason(absl::StatusCode::kAborted, kReasonSlowReader,
                             "the reader fell behind for longer than --stall-timeout"));
    } else {
      live->paused = live->responder->full();
      ReportProgress(*live, now);
      next_look = std::min({next_look, live->request.deadline, live->budget_end,
                            live->paused ? now + kPausedPoll : TimePoint::max()});
    }
  }
  return next_look;
}

void EngineImpl::ReportProgress(LiveRequest& live, TimePoint now) {
  if (now - live.last_event < parts_.options.progress_interval || live.paused) return;
  live.last_event = now;
  const int32_t position = scheduler_.QueuePosition(&live);
  const int32_t done = live.choices.empty() ? 0 : live.choices[0].planned_tokens;
  const bool decoding = live.first_token != TimePoint{};
  live.responder->Progress({.phase = position >= 0 ? Phase::kQueued
                                     : decoding    ? Phase::kDecode
                                                   : Phase::kPrefill,
                            .queue_position = position >= 0 ? position + 1 : 0,
                            .prompt_tokens_done = std::min(done, static_cast<int32_t>(live.prompt.size()))});
}

void EngineImpl::Deliver(absl::StatusOr<StepResult> result) {
  if (dead_) return;
  if (!result.ok()) return Die(result.status());
  const TimePoint now = Clock::now();
  pace_.Ended(now);
  Scheduler::Delivery delivery = scheduler_.Deliver(*result);
  for (Scheduler::Scores& scores : delivery.scores) DeliverScores(scores, now);
  for (const Scheduler::Sample& sample : delivery.samples) DeliverSample(sample, result->step, now);
  ++steps_;
}

void EngineImpl::DeliverSample(const Scheduler::Sample& sample, int64_t step, TimePoint now) {
  LiveRequest& live = static_cast<LiveRequest&>(*sample.group);
  if (!live.choice_open[sample.choice]) return;
  if (sample.token->invalid) return Fail(live, NotANumber());
  if (live.first_token == TimePoint{}) {
    live.first_token = now;
    prompt_tokens_ += static_cast<int64_t>(live.prompt.size());
  } else if (now - live.last_token > live.longest_gap) {
    live.longest_gap = now - live.last_token;
    live.longest_gap_step = step;
  }
  live.last_token = now;
  live.last_event = now;
  ++generated_tokens_;
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
  if (ending.has_value()) EndChoice(live, sample.choice);
}

void EngineImpl::DeliverScores(Scheduler::Scores& scores, TimePoint now) {
  LiveRequest& live = static_cast<LiveRequest&>(*scores.group);
  const auto invalid = [](const TokenRecord& token) { return std::isnan(token.logprob); };
  if (std::any_of(scores.tokens.begin(), scores.tokens.end(), invalid)) return Fail(live, NotANumber());
  live.last_event = now;
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
    EndChoice(live, 0);
  }
}

void EngineImpl::EndChoice(LiveRequest& live, int32_t choice) {
  if (!live.choice_open[choice]) return;
  if (live.open_choices == 1) return Complete(live);
  live.choice_open[choice] = false;
  --live.open_choices;
  scheduler_.End(&live, choice);
}

void EngineImpl::Complete(LiveRequest& live) {
  Close(live);
  registry_.Remove(live);
  live.responder->Complete(SummaryOf(live, Clock::now()));
}

void EngineImpl::Fail(LiveRequest& live, absl::Status status) {
  if (live.open_choices == 0) return;
  Close(live);
  registry_.Remove(live);
  live.responder->Fail(std::move(status), SummaryOf(live, Clock::now()));
}

void EngineImpl::Close(LiveRequest& live) {
  live.open_choices = 0;
  live.choice_open.assign(live.n, false);
  scheduler_.EndAll(&live);
}

void EngineImpl::FailAll(const absl::Status& status) {
  std::vector<std::shared_ptr<LiveRequest>> requests;
  for (const auto& [group, live] : live_) requests.push_back(live);
  for (const auto& live : requests) Fail(*live, status);
}

void EngineImpl::ForgetRetired() {
  for (SequenceGroup* group : scheduler_.TakeRetired()) live_.erase(group);
}

void EngineImpl::PublishLoad() {
  MutexLock lock(mutex_);
  load_ = {.running = scheduler_.num_running(),
           .waiting = scheduler_.num_waiting(),
           .waiting_tokens = scheduler_.waiting_tokens(),
           .free_blocks = scheduler_.free_blocks(),
           .total_blocks = scheduler_.total_blocks(),
           .steps = steps_,
           .generated_tokens = generated_tokens_,
           .prompt_tokens = prompt_tokens_};
}

void EngineImpl::Die(absl::Status status) {
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
  FailAll(failure);
}

}  // namespace yoio
