// The half of convert.h that turns events into messages.
#include <algorithm>
#include <utility>

#include "server/convert.h"
#include "server/hex.h"
#include "server/version.h"
#include "yoio/v1/event.pb.h"

namespace yoio {
namespace {

// Calls the one of several lambdas that takes the alternative a variant holds.
template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;  // clang 14 does not find it by itself

v1::FinishReason ReasonToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kEos:
      return v1::FINISH_REASON_EOS;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kTimeBudget:
      return v1::FINISH_REASON_TIME_BUDGET;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

v1::Phase PhaseToProto(Phase phase) {
  switch (phase) {
    case Phase::kQueued:
      return v1::PHASE_QUEUED;
    case Phase::kPrefill:
      return v1::PHASE_PREFILL;
    case Phase::kDecode:
      return v1::PHASE_DECODE;
  }
  return v1::PHASE_UNSPECIFIED;
}

void SetAccepted(const AcceptedEvent& event, const EventView& view, v1::Accepted& out) {
  out.set_request_id(event.request_id);
  out.set_model(view.model->names.front());
  out.set_model_revision(view.model->info->revision);
  out.set_prompt_tokens(event.prompt_tokens);
  out.set_max_tokens(event.max_tokens);
  out.set_n(event.n);
  if (event.max_tokens == 0) return;  // Score draws nothing
  v1::SamplingValues& sampling = *out.mutable_sampling();
  sampling.set_temperature(event.sampling.temperature);
  sampling.set_top_p(event.sampling.top_p);
  sampling.set_top_k(event.sampling.top_k);
  sampling.set_min_p(event.sampling.min_p);
  sampling.set_repetition_penalty(event.sampling.repetition_penalty);
  sampling.set_frequency_penalty(event.sampling.frequency_penalty);
  sampling.set_presence_penalty(event.sampling.presence_penalty);
  sampling.set_seed(event.sampling.seed);
}

void SetRecord(const TokenRecord& record, v1::TokenRecord& out) {
  out.set_id(record.id);
  out.set_logprob(record.logprob);
  for (const TopLogprob& top : record.top) {
    v1::TopLogprob& added = *out.add_top();
    added.set_id(top.id);
    added.set_logprob(top.logprob);
  }
}

// Adds the tokens [begin, end) to a Delta or a Choice, as far as `view` asks for them.
template <typename Message>
void AddTokens(const std::vector<TokenRecord>& tokens, size_t begin, size_t end, const EventView& view,
               Message& out) {
  for (size_t i = begin; i < end; ++i) {
    if (view.ids) out.add_ids(tokens[i].id);
    if (view.logprobs) SetRecord(tokens[i], *out.add_tokens());
  }
}

template <typename Message>
void SetMatchedStop(FinishedEvent& event, Message& out) {
  if (!event.matched_stop.empty()) {
    out.set_stop_string(std::move(event.matched_stop));
  } else if (event.matched_id >= 0) {
    out.set_stop_id(event.matched_id);
  }
}

void SetSummary(const SummaryEvent& event, const EventView& view, v1::Summary& out) {
  out.mutable_usage()->set_prompt_tokens(event.usage.prompt_tokens);
  out.mutable_usage()->set_cached_tokens(event.usage.cached_tokens);
  out.mutable_usage()->set_completion_tokens(event.usage.completion_tokens);
  ToProto(event.timing, view, *out.mutable_timing());
}

void SetWaited(const Timing& timing, v1::WaitCauses& out) {
  ToProto(timing.waited_slots, *out.mutable_slots());
  ToProto(timing.waited_blocks, *out.mutable_blocks());
  ToProto(timing.waited_token_budget, *out.mutable_token_budget());
  ToProto(timing.waited_tenant_share, *out.mutable_tenant_share());
  ToProto(timing.waited_tokenizer, *out.mutable_tokenizer());
}

// Who served it, and under which trace.
void SetOrigin(const EventView& view, v1::Timing& out) {
  out.set_server_version(kVersion);
  out.set_model_revision(view.model->info->revision);
  if (view.trace.valid()) out.set_trace_id(HexOf(view.trace.trace));
  if (view.place == nullptr) return;
  if (!view.place->pod.empty()) out.set_pod(view.place->pod);
  if (!view.place->node.empty()) out.set_node(view.place->node);
}

void SetProgress(const ProgressEvent& event, v1::Progress& out) {
  out.set_phase(PhaseToProto(event.phase));
  out.set_queue_position(event.queue_position);
  out.set_prompt_tokens_done(event.prompt_tokens_done);
}

void SetScores(const PromptScoresEvent& event, v1::PromptScores& out) {
  out.set_first_position(event.first_position);
  for (const TokenRecord& token : event.tokens) SetRecord(token, *out.add_tokens());
}

// One message, or several when merging for a slow reader made the delta longer than a message of Score.
void AppendDelta(DeltaEvent event, const EventView& view, std::vector<v1::GenerateResponse>& out) {
  size_t begin = 0;
  do {
    const size_t end = std::min(event.tokens.size(), begin + kMaxScoreRecords);
    v1::Delta& delta = *out.emplace_back().mutable_delta();
    delta.set_choice(event.choice);
    if (begin == 0) delta.set_text(std::move(event.text));
    AddTokens(event.tokens, begin, end, view, delta);
    begin = end;
  } while (begin < event.tokens.size() && (view.ids || view.logprobs));
}

}  // namespace

void AppendResponses(Event event, const EventView& view, std::vector<v1::GenerateResponse>& out) {
  std::visit(Overloaded{
                 [&](AcceptedEvent& e) { SetAccepted(e, view, *out.emplace_back().mutable_accepted()); },
                 [&](ProgressEvent& e) { SetProgress(e, *out.emplace_back().mutable_progress()); },
                 [&](DeltaEvent& e) { AppendDelta(std::move(e), view, out); },
                 [&](PromptScoresEvent& e) { SetScores(e, *out.emplace_back().mutable_prompt_scores()); },
                 [&](FinishedEvent& e) {
                   v1::Finished& finished = *out.emplace_back().mutable_finished();
                   finished.set_choice(e.choice);
                   finished.set_reason(ReasonToProto(e.reason));
                   SetMatchedStop(e, finished);
                 },
                 [&](SummaryEvent& e) { SetSummary(e, view, *out.emplace_back().mutable_summary()); },
             },
             event);
}

void AppendResponses(Event event, const EventView& view, std::vector<v1::ScoreResponse>& out) {
  std::visit(Overloaded{
                 [&](AcceptedEvent& e) { SetAccepted(e, view, *out.emplace_back().mutable_accepted()); },
                 [&](ProgressEvent& e) { SetProgress(e, *out.emplace_back().mutable_progress()); },
                 [&](PromptScoresEvent& e) { SetScores(e, *out.emplace_back().mutable_scores()); },
                 [&](SummaryEvent& e) { SetSummary(e, view, *out.emplace_back().mutable_summary()); },
                 [](DeltaEvent&) {},
                 [](FinishedEvent&) {},
             },
             event);
}

void MergeIntoAnswer(Event event, const EventView& view, v1::GenerateOnceResponse& answer) {
  std::visit(Overloaded{
                 [&](AcceptedEvent& e) {
                   SetAccepted(e, view, *answer.mutable_accepted());
                   for (int i = 0; i < e.n; ++i) answer.add_choices()->set_index(i);
                 },
                 [&](DeltaEvent& e) {
                   v1::Choice& choice = *answer.mutable_choices(e.choice);
                   choice.mutable_text()->append(e.text);
                   AddTokens(e.tokens, 0, e.tokens.size(), view, choice);
                 },
                 [&](PromptScoresEvent& e) {
                   for (const TokenRecord& token : e.tokens) SetRecord(token, *answer.add_prompt_scores());
                 },
                 [&](FinishedEvent& e) {
                   v1::Choice& choice = *answer.mutable_choices(e.choice);
                   choice.set_finish_reason(ReasonToProto(e.reason));
                   SetMatchedStop(e, choice);
                 },
                 [&](SummaryEvent& e) { SetSummary(e, view, *answer.mutable_summary()); },
                 [](ProgressEvent&) {},
             },
             event);
}

void ToProto(const Timing& timing, const EventView& view, v1::Timing& out) {
  ToProto(timing.total, *out.mutable_total());
  ToProto(timing.tokenize, *out.mutable_tokenize());
  ToProto(timing.queue, *out.mutable_queue());
  ToProto(timing.prefill, *out.mutable_prefill());
  ToProto(timing.time_to_first_token, *out.mutable_time_to_first_token());
  ToProto(timing.decode, *out.mutable_decode());
  ToProto(timing.deliver, *out.mutable_deliver());
  if (timing.time_per_output_token > Duration::zero()) {
    ToProto(timing.time_per_output_token, *out.mutable_time_per_output_token());
  }
  if (timing.longest_gap > Duration::zero()) {
    ToProto(timing.longest_gap, *out.mutable_longest_gap());
    out.set_longest_gap_step(timing.longest_gap_step);
  }
  ToProto(timing.blocked_on_client, *out.mutable_blocked_on_client());
  if (view.deadline != TimePoint::max()) {
    ToProto(std::max(view.deadline - Clock::now(), Duration::zero()), *out.mutable_deadline_left());
  }
  out.set_prefill_chunks(timing.prefill_chunks);
  out.set_decode_steps(timing.decode_steps);
  SetWaited(timing, *out.mutable_waited());
  out.set_queue_length_on_arrival(timing.queue_length_on_arrival);
  out.set_queue_position_on_arrival(timing.queue_position_on_arrival);
  out.set_preemptions(timing.preemptions);
  out.set_recomputed_tokens(timing.recomputed_tokens);
  SetOrigin(view, out);
}

}  // namespace yoio
