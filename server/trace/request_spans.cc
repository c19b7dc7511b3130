#include "server/trace/request_spans.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/trace/step_spans.h"

namespace yoio {
namespace {

constexpr char kService[] = "yoio.v1.InferenceService";

// OpenTelemetry: what a server is to blame for. A caller's mistakes leave the status of the span unset.
bool IsServersFault(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DATA_LOSS:
      return true;
    default:
      return false;
  }
}

void SetRpc(const CallRecord& record, Span& span) {
  Set(span, "rpc.system", "grpc");
  Set(span, "rpc.service", kService);
  Set(span, "rpc.method", record.method);
  Set(span, "rpc.grpc.status_code", static_cast<int64_t>(record.code));
  if (record.code == grpc::StatusCode::OK) return;
  // absl's codes are gRPC's.
  Set(span, "error.type", absl::StatusCodeToString(static_cast<absl::StatusCode>(record.code)));
  if (!record.reason.empty()) Set(span, "yoio.reason", record.reason);
  if (!IsServersFault(record.code)) return;
  span.status = SpanStatus::kError;
  span.status_message = record.reason;
}

void SetSampling(const AcceptedEvent& request, Span& span) {
  Set(span, "gen_ai.request.max_tokens", request.max_tokens);
  Set(span, "gen_ai.request.choice.count", request.n);
  if (request.max_tokens == 0) return;  // Score draws nothing
  const SamplingParams& sampling = request.sampling;
  Set(span, "gen_ai.request.temperature", sampling.temperature);
  Set(span, "gen_ai.request.top_p", sampling.top_p);
  Set(span, "gen_ai.request.top_k", sampling.top_k);
  Set(span, "gen_ai.request.frequency_penalty", sampling.frequency_penalty);
  Set(span, "gen_ai.request.presence_penalty", sampling.presence_penalty);
  Set(span, "gen_ai.request.seed", static_cast<int64_t>(sampling.seed));
}

void SetUsage(const Usage& usage, Span& span) {
  Set(span, "gen_ai.usage.input_tokens", usage.prompt_tokens);
  Set(span, "gen_ai.usage.output_tokens", usage.completion_tokens);
  Set(span, "gen_ai.usage.cache_read.input_tokens", usage.cached_tokens);
}

void SetLatency(const Timing& timing, Span& span) {
  Set(span, "gen_ai.latency.e2e", timing.total);
  Set(span, "gen_ai.latency.time_in_queue", timing.queue);
  Set(span, "gen_ai.latency.time_in_model_prefill", timing.prefill);
  Set(span, "gen_ai.latency.time_in_model_decode", timing.decode);
  Set(span, "gen_ai.latency.time_in_model_inference", timing.prefill + timing.decode);
  if (timing.time_to_first_token > Duration::zero()) {
    Set(span, "gen_ai.latency.time_to_first_token", timing.time_to_first_token);
  }
  Set(span, "yoio.deliver", timing.deliver);
  if (timing.longest_gap > Duration::zero()) {
    Set(span, "yoio.longest_gap", timing.longest_gap);
    Set(span, "yoio.longest_gap_step", timing.longest_gap_step);
  }
  Set(span, "yoio.blocked_on_client", timing.blocked_on_client);
}

void SetQueue(const Timing& timing, Span& span) {
  Set(span, "yoio.queue.length", timing.queue_length_on_arrival);
  Set(span, "yoio.queue.position", timing.queue_position_on_arrival);
  Set(span, "yoio.waited.slots", timing.waited_slots);
  Set(span, "yoio.waited.blocks", timing.waited_blocks);
  Set(span, "yoio.waited.token_budget", timing.waited_token_budget);
  Set(span, "yoio.waited.tenant_share", timing.waited_tenant_share);
  Set(span, "yoio.waited.tokenizer", timing.waited_tokenizer);
}

void SetSteps(const Timing& timing, Span& span) {
  Set(span, "yoio.prefill_chunks", timing.prefill_chunks);
  Set(span, "yoio.decode_steps", timing.decode_steps);
  Set(span, "yoio.preemptions", timing.preemptions);
  Set(span, "yoio.recomputed_tokens", timing.recomputed_tokens);
}

Span RpcSpan(const CallRecord& record, std::string name, const SpanMaker& maker) {
  Span span = maker.Make(record.trace, std::move(name), record.arrival, record.ended);
  span.parent = record.parent_span;
  span.remote_parent = record.parent_span != std::array<uint8_t, 8>{};
  span.trace_state = record.trace_state;
  span.kind = SpanKind::kServer;
  SetRpc(record, span);
  Set(span, "yoio.tenant", record.tenant);
  return span;
}

Span ServerSpan(const CallRecord& record, const ModelLabel& model, const SpanMaker& maker) {
  const char* operation = record.method == "Score" ? "score" : "text_completion";
  Span span = RpcSpan(record, absl::StrCat(operation, " ", model.name), maker);
  Set(span, "gen_ai.operation.name", operation);
  Set(span, "gen_ai.provider.name", "yoio");
  Set(span, "gen_ai.request.model", model.name);
  Set(span, "gen_ai.response.model", model.name);
  if (!record.request_id.empty()) Set(span, "gen_ai.response.id", record.request_id);
  if (record.finish_reason) {
    Set(span, "gen_ai.response.finish_reasons",
        std::vector<std::string>{std::string(NameOf(*record.finish_reason))});
  }
  if (record.request) SetSampling(*record.request, span);
  Set(span, "yoio.model_revision", model.revision);
  Set(span, "yoio.accepted", record.accepted);
  if (record.deadline_left) Set(span, "yoio.deadline_left", *record.deadline_left);
  if (!record.summary) return span;
  const auto& [usage, timing] = *record.summary;
  SetUsage(usage, span);
  SetLatency(timing, span);
  SetQueue(timing, span);
  SetSteps(timing, span);
  return span;
}

// Phase after phase from the request's arrival on.
void AddPhases(const CallRecord& record, const SpanMaker& maker, std::vector<Span>& spans) {
  const Span server = spans.front();  // not a reference: `spans` grows
  const auto& [usage, timing] = *record.summary;
  TimePoint begin = record.arrival;
  const auto add = [&](const char* name, Duration duration) -> Span& {
    Span& span = spans.emplace_back(maker.Child(server, name, begin, begin + duration));
    begin += duration;
    return span;
  };
  if (timing.tokenize > Duration::zero()) {
    Set(add("tokenize", timing.tokenize), "yoio.waited.tokenizer", timing.waited_tokenizer);
  }
  SetQueue(timing, add("queue", timing.queue));
  if (timing.prefill_chunks == 0 && timing.prefill == Duration::zero()) return;
  Span& prefill = add("prefill", timing.prefill);
  Set(prefill, "yoio.chunks", timing.prefill_chunks);
  Set(prefill, "yoio.prompt_tokens", usage.prompt_tokens);
  Set(prefill, "yoio.cached_tokens", usage.cached_tokens);
  if (timing.time_to_first_token == Duration::zero()) return;
  Span& decode = add("decode", timing.decode);
  Set(decode, "yoio.steps", timing.decode_steps);
  Set(decode, "yoio.tokens", usage.completion_tokens);
  Set(decode, "yoio.preemptions", timing.preemptions);
  Set(decode, "yoio.recomputed_tokens", timing.recomputed_tokens);
}

// A unary answer has no messages before its end.
void AddStream(const CallRecord& record, const SpanMaker& maker, std::vector<Span>& spans) {
  if (!record.accepted || record.method == "GenerateOnce") return;
  Span stream = maker.Child(spans.front(), "stream", record.first_sent, record.ended);
  Set(stream, "yoio.tokens", record.tokens_sent);
  if (record.summary) Set(stream, "yoio.blocked_on_client", record.summary->timing.blocked_on_client);
  spans.push_back(std::move(stream));
}

}  // namespace

Span SimpleCallSpan(const CallRecord& record, const SpanMaker& maker) {
  return RpcSpan(record, absl::StrCat(kService, "/", std::string(record.method)), maker);
}

std::vector<Span> RequestSpans(const CallRecord& record, const ModelLabel& model, const SpanMaker& maker) {
  std::vector<Span> spans;
  spans.push_back(ServerSpan(record, model, maker));
  if (record.summary) AddPhases(record, maker, spans);
  AddStream(record, maker, spans);
  std::stable_sort(spans.begin() + 1, spans.end(),
                   [](const Span& a, const Span& b) { return a.start_unix_ns < b.start_unix_ns; });
  return spans;
}

void MarkLate(const CallRecord& record, const std::vector<StepRecord>& slowest_steps, const SpanMaker& maker,
              std::vector<Span>& spans) {
  Set(spans.front(), "yoio.sampled_late", true);
  const Span server = spans.front();
  for (const StepRecord& step : slowest_steps) {
    spans.push_back(SlowStepSpan(step, record.number, server, record.ended, maker));
  }
}

}  // namespace yoio
