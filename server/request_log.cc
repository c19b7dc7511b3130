#include "server/request_log.h"

#include <utility>

#include "absl/status/status.h"
#include "server/hex.h"
#include "server/version.h"

namespace yoio {
namespace {

// "DEADLINE_EXCEEDED": absl's codes are gRPC's.
std::string CodeName(grpc::StatusCode code) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

void AddTokens(const Usage& usage, const Timing& timing, LogLine& line) {
  line.With("prompt_tokens", usage.prompt_tokens)
      .With("cached_tokens", usage.cached_tokens)
      .With("recomputed_tokens", timing.recomputed_tokens)
      .With("completion_tokens", usage.completion_tokens)
      .With("prefill_chunks", timing.prefill_chunks)
      .With("decode_steps", timing.decode_steps)
      .With("preemptions", timing.preemptions);
}

void AddWaits(const Timing& timing, LogLine& line) {
  line.With("queue_length", timing.queue_length_on_arrival)
      .With("queue_position", timing.queue_position_on_arrival)
      .With("waited_slots_s", timing.waited_slots)
      .With("waited_blocks_s", timing.waited_blocks)
      .With("waited_token_budget_s", timing.waited_token_budget)
      .With("waited_tenant_share_s", timing.waited_tenant_share)
      .With("waited_tokenizer_s", timing.waited_tokenizer);
}

void AddPhases(const Timing& timing, LogLine& line) {
  line.With("tokenize_s", timing.tokenize)
      .With("queue_s", timing.queue)
      .With("prefill_s", timing.prefill)
      .With("first_token_s", timing.time_to_first_token)
      .With("decode_s", timing.decode)
      .With("deliver_s", timing.deliver)
      .With("longest_gap_s", timing.longest_gap)
      .With("longest_gap_step", timing.longest_gap_step)
      .With("blocked_on_client_s", timing.blocked_on_client);
}

}  // namespace

void WriteRequestLine(const CallRecord& record, const Place& place, const std::string& model_revision,
                      const Logger& log) {
  if (!log.Writes(LogLevel::kInfo)) return;
  LogLine line(LogLevel::kInfo, "request");
  const auto if_set = [&line](std::string_view key, std::string_view value) {
    if (!value.empty()) line.With(key, value);
  };
  line.With("method", record.method).With("tenant", record.tenant).With("request_id", record.request_id);
  if (record.trace.valid()) if_set("trace_id", HexOf(record.trace.trace));
  line.With("code", CodeName(record.code));
  if (!record.reason.empty()) line.With("reason", record.reason).With("accepted", record.accepted);
  if (record.finish_reason) line.With("finish_reason", NameOf(*record.finish_reason));
  if (record.summary) {
    const auto& [usage, timing] = *record.summary;
    AddTokens(usage, timing, line);
    AddWaits(timing, line);
    AddPhases(timing, line);
  } else {
    line.With("tokens_sent", record.tokens_sent);
  }
  line.With("total_s", record.ended - record.arrival);
  if (record.deadline_left) line.With("deadline_left_s", *record.deadline_left);
  line.With("server_version", kVersion);
  if_set("model_revision", model_revision);
  if_set("pod", place.pod);
  if_set("node", place.node);
  log.Write(std::move(line));
}

}  // namespace yoio
