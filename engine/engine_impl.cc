#include "engine/engine_impl.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/admission.h"
#include "engine/errors.h"

namespace yoio {
namespace {

// Of text, before it has been tokenized. Few texts have more tokens than this says, so that the queue's
// limits rarely turn one away after that work.
constexpr int64_t kBytesPerToken = 4;

// Room for tokenizing, responding and unary calls, for every live request.
size_t TextQueue(const EngineOptions& options) {
  return 4 * (static_cast<size_t>(options.max_queued_requests) + static_cast<size_t>(options.max_sequences));
}

int64_t EstimateTokens(const Request& request) {
  if (const auto* text = std::get_if<std::string>(&request.prompt)) {
    return static_cast<int64_t>(text->size()) / kBytesPerToken + 1;
  }
  return static_cast<int64_t>(std::get<std::vector<int32_t>>(request.prompt).size());
}

}  // namespace

EngineImpl::EngineImpl(EngineParts parts)
    : parts_(std::move(parts)),
      scheduler_(parts_.scheduler),
      gate_(parts_.options.max_queued_requests, parts_.options.max_queued_tokens),
      text_pool_(parts_.options.text_threads, TextQueue(parts_.options)),
      notes_(parts_.options.tensor_parallel_size),
      loop_(parts_.options, parts_.depth, parts_.token_gap, *parts_.leader, scheduler_, mailbox_, gate_,
            registry_, notes_) {
  // An engine that has nothing to do learns of it too.
  parts_.leader->OnFailure([this](const absl::Status& reason) { mailbox_.Post(FailureCommand{reason}); });
}

EngineImpl::~EngineImpl() {
  const absl::Status reason =
      WithReason(absl::StatusCode::kUnavailable, kReasonDraining, "the server is shutting down");
  registry_.Close(reason);
  mailbox_.Post(CancelAllCommand{reason});
  registry_.WaitUntilEmpty(TimePoint::max());  // those still tokenizing included
  parts_.leader->OnFailure(nullptr);
  mailbox_.Close();
}

absl::Status EngineImpl::Submit(Request request, std::shared_ptr<Outbox> outbox) {
  auto live = std::make_shared<LiveRequest>();
  live->request = std::move(request);
  live->outbox = std::move(outbox);
  if (live->request.tenant_limits == TenantLimits{}) {
    live->request.tenant_limits = parts_.options.tenant_limits;
  }
  SetTimes(*live, parts_.options.max_request_time);
  YOIO_RETURN_IF_ERROR(registry_.Add(live));
  absl::Status status = Admit(live);
  if (!status.ok()) Withdraw(*live);
  return status;
}

absl::Status EngineImpl::Admit(const std::shared_ptr<LiveRequest>& live) {
  const Request& request = live->request;
  YOIO_RETURN_IF_ERROR(gate_.Enter(live->place,
                                   {.tenant = request.tenant,
                                    .limits = request.tenant_limits,
                                    .priority = request.priority,
                                    .due = live->due,
                                    .deadline = request.deadline,
                                    .tokens = EstimateTokens(request)},
                                   loop_.forecast(), Clock::now()));
  YOIO_RETURN_IF_ERROR(CheckRequest(request, parts_.model, parts_.limits));
  if (std::holds_alternative<std::vector<int32_t>>(request.prompt)) return Prepare(live);
  const bool taken = text_pool_.TryRun([this, live] {
    absl::Status refused = Prepare(live);
    if (refused.ok()) return;
    Withdraw(*live);
    live->outbox->End(std::move(refused));
  });
  if (taken) return absl::OkStatus();
  return WithReason(absl::StatusCode::kResourceExhausted, kReasonQueueFull,
                    "too many prompts are waiting to be tokenized; try again later");
}

absl::Status EngineImpl::Prepare(const std::shared_ptr<LiveRequest>& live) {
  YOIO_ASSIGN_OR_RETURN(std::vector<int32_t> prompt, TakePrompt(*live));
  Resolve(live->request, std::move(prompt), parts_.model, *live);
  if (!scheduler_.CanEverRun(*live)) {
    return absl::InvalidArgumentError(
        "prompt, max_tokens and n together need more of the cache than there is, or than the tenant may "
        "hold");
  }
  live->choice_open.assign(live->n, true);
  live->open_choices = live->n;
  live->tokens_of_choice.assign(live->n, 0);
  live->responder = MakeResponder(live);
  mailbox_.Post(SubmitCommand{live});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> EngineImpl::TakePrompt(LiveRequest& live) {
  Request& request = live.request;
  live.tokenizing = live.tokenized = request.arrival;
  auto prompt = std::exchange(request.prompt, {});
  if (auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) return std::move(*ids);

  live.tokenizing = Clock::now();
  if (live.tokenizing >= request.deadline) {
    return WithReason(absl::StatusCode::kDeadlineExceeded, kReasonExpired, "the deadline has passed");
  }
  YOIO_ASSIGN_OR_RETURN(std::vector<int32_t> ids, parts_.tokenizer->Encode(std::get<std::string>(prompt)));
  live.tokenized = Clock::now();
  YOIO_RETURN_IF_ERROR(CheckPrompt(request, ids, parts_.model));
  YOIO_RETURN_IF_ERROR(
      gate_.Correct(live.place, static_cast<int64_t>(ids.size()), loop_.forecast(), live.tokenized));
  return ids;
}

std::shared_ptr<Responder> EngineImpl::MakeResponder(const std::shared_ptr<LiveRequest>& live) {
  const Request& request = live->request;
  const ResponderOptions options{.prompt_tokens = static_cast<int32_t>(live->prompt.size()),
                                 .n = live->n,
                                 .output_text = request.output_text && !request.score_only,
                                 .output_ids = request.output_ids || request.logprobs.output,
                                 .skip_special_tokens = request.skip_special_tokens,
                                 .stop = request.stop};
  return std::make_shared<Responder>(options, parts_.tokenizer.get(), text_pool_, live->outbox,
                                     [this, weak = std::weak_ptr<LiveRequest>(live)](int32_t choice) {
                                       mailbox_.Post(StopCommand{weak, choice});
                                     });
}

void EngineImpl::Withdraw(LiveRequest& live) {
  gate_.Leave(live.place);
  registry_.Remove(live);
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
  Load load = loop_.load();
  load.scheduler_seconds_p99 = notes_.scheduler_seconds_p99();
  const QueueGate::Counts counts = gate_.counts();
  load.running = counts.live - counts.waiting;
  load.waiting = counts.waiting;
  load.waiting_tokens = counts.waiting_tokens;
  return load;
}

absl::StatusOr<EngineState> EngineImpl::DumpState(int32_t max_requests, TimePoint deadline) {
  const auto answer = std::make_shared<Answer<EngineState>>();
  mailbox_.Post(DumpCommand{max_requests, answer});
  std::optional<EngineState> state = answer->WaitUntil(deadline);
  if (!state.has_value()) {
    return absl::DeadlineExceededError("the engine thread has not answered: a step is long, or hangs");
  }
  state->load = load();
  state->draining = registry_.closed();
  state->ranks = ranks();
  return *std::move(state);
}

absl::Status EngineImpl::Drain(TimePoint deadline) {
  registry_.Close(WithReason(absl::StatusCode::kUnavailable, kReasonDraining, "the server is draining"));
  if (registry_.WaitUntilEmpty(deadline)) return absl::OkStatus();
  mailbox_.Post(CancelAllCommand{
      WithReason(absl::StatusCode::kUnavailable, kReasonDraining, "the server's time to drain is over")});
  registry_.WaitUntilEmpty(TimePoint::max());
  return absl::DeadlineExceededError("requests were still running at the end of the drain");
}

}  // namespace yoio
