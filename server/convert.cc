#include "server/convert.h"

#include <google/protobuf/duration.pb.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "engine/errors.h"
#include "yoio/v1/inference.pb.h"
#include "yoio/v1/request.pb.h"

namespace yoio {
namespace {

constexpr int64_t kMaxDurationSeconds = 10LL * 365 * 24 * 3600;

absl::Status Unsupported(absl::string_view field) {
  return WithReason(absl::StatusCode::kUnimplemented, "UNSUPPORTED_FIELD",
                    absl::StrCat(field, ": this server does not support it yet"));
}

absl::Status NeedsTokenizer(absl::string_view field) {
  return WithReason(absl::StatusCode::kUnimplemented, "UNSUPPORTED_FIELD",
                    absl::StrCat(field, ": this model has no tokenizer; use token ids"));
}

absl::Status BadValue(absl::string_view field, absl::string_view expected) {
  return WithReason(absl::StatusCode::kInvalidArgument, "BAD_VALUE", absl::StrCat(field, ": ", expected));
}

// Copies a field that has presence into an optional.
#define YOIO_COPY_IF_SET(message, field, target) \
  if ((message).has_##field()) (target) = (message).field()

// Sets request.prompt from the oneof that GenerateRequest and ScoreRequest share by shape.
template <typename Message>
absl::Status ReadPrompt(const Message& message, const ModelInfo& model, Request& request) {
  switch (message.prompt_case()) {
    case Message::kText:
      if (!model.has_tokenizer) return NeedsTokenizer("text");
      request.prompt = message.text();
      return absl::OkStatus();
    case Message::kTokenIds:
      request.prompt =
          std::vector<int32_t>(message.token_ids().ids().begin(), message.token_ids().ids().end());
      return absl::OkStatus();
    case Message::PROMPT_NOT_SET:
      return BadValue("prompt", "expected exactly one of text and token_ids");
  }
  return BadValue("prompt", "expected exactly one of text and token_ids");
}

absl::StatusOr<Priority> ToPriority(v1::Priority priority) {
  switch (priority) {
    case v1::PRIORITY_LOW:
      return Priority::kLow;
    case v1::PRIORITY_UNSPECIFIED:
    case v1::PRIORITY_NORMAL:
      return Priority::kNormal;
    case v1::PRIORITY_HIGH:
      return Priority::kHigh;
    default:
      return BadValue("priority", "expected PRIORITY_LOW, PRIORITY_NORMAL or PRIORITY_HIGH");
  }
}

// How the request is scheduled, in the fields that GenerateRequest and ScoreRequest share.
template <typename Message>
absl::Status ReadScheduling(const Message& message, Request& request) {
  if (message.has_time_budget()) {
    YOIO_ASSIGN_OR_RETURN(request.time_budget, PositiveDuration(message.time_budget(), "time_budget"));
  }
  YOIO_ASSIGN_OR_RETURN(request.priority, ToPriority(message.priority()));
  request.cache = {.bypass = message.cache().bypass(), .salt = message.cache().salt()};
  if (!message.has_latency_targets()) return absl::OkStatus();
  const v1::LatencyTargets& targets = message.latency_targets();
  const auto read = [](bool present, const google::protobuf::Duration& duration, std::string_view field,
                       std::optional<Duration>& target) -> absl::Status {
    if (!present) return absl::OkStatus();
    YOIO_ASSIGN_OR_RETURN(target, PositiveDuration(duration, field));
    return absl::OkStatus();
  };
  YOIO_RETURN_IF_ERROR(read(targets.has_time_to_first_token(), targets.time_to_first_token(),
                            "latency_targets.time_to_first_token", request.targets.time_to_first_token));
  YOIO_RETURN_IF_ERROR(read(targets.has_time_per_output_token(), targets.time_per_output_token(),
                            "latency_targets.time_per_output_token", request.targets.time_per_output_token));
  return read(targets.has_total(), targets.total(), "latency_targets.total", request.targets.total);
}

// Fields that ask for what this server cannot do yet.
absl::Status CheckSupported(const v1::GenerateRequest& message) {
  switch (message.constraint_case()) {
    case v1::GenerateRequest::kChoice:
      return Unsupported("choice");
    case v1::GenerateRequest::kRegex:
      return Unsupported("regex");
    case v1::GenerateRequest::kJsonSchema:
      return Unsupported("json_schema");
    case v1::GenerateRequest::CONSTRAINT_NOT_SET:
      break;
  }
  return absl::OkStatus();
}

void ReadSampling(const v1::SamplingOptions& options, Request& request) {
  YOIO_COPY_IF_SET(options, temperature, request.temperature);
  YOIO_COPY_IF_SET(options, top_p, request.top_p);
  YOIO_COPY_IF_SET(options, top_k, request.top_k);
  YOIO_COPY_IF_SET(options, min_p, request.min_p);
  YOIO_COPY_IF_SET(options, repetition_penalty, request.repetition_penalty);
  YOIO_COPY_IF_SET(options, frequency_penalty, request.frequency_penalty);
  YOIO_COPY_IF_SET(options, presence_penalty, request.presence_penalty);
  YOIO_COPY_IF_SET(options, seed, request.seed);
  request.logit_bias.assign(options.logit_bias().begin(), options.logit_bias().end());
  std::sort(request.logit_bias.begin(), request.logit_bias.end());
}

absl::Status ReadStop(const v1::StopOptions& options, const ModelInfo& model, Request& request) {
  YOIO_COPY_IF_SET(options, max_tokens, request.max_tokens);
  YOIO_COPY_IF_SET(options, min_tokens, request.stop.min_tokens);
  YOIO_COPY_IF_SET(options, ignore_eos, request.stop.ignore_eos);
  YOIO_COPY_IF_SET(options, include_stop, request.stop.include_stop);
  request.stop.stop_ids.assign(options.stop_ids().begin(), options.stop_ids().end());
  request.stop.stop_strings.assign(options.stop_strings().begin(), options.stop_strings().end());
  if (!request.stop.stop_strings.empty() && !model.has_tokenizer) return NeedsTokenizer("stop.stop_strings");
  if (request.max_tokens == 0) return BadValue("stop.max_tokens", "expected 1 or more");
  return absl::OkStatus();
}

absl::Status ReadOutput(const v1::OutputOptions& options, const ModelInfo& model, Request& request) {
  request.output_text = options.has_text() ? options.text() : model.has_tokenizer;
  if (request.output_text && !model.has_tokenizer) return NeedsTokenizer("output.text");
  request.output_ids = options.ids();
  YOIO_COPY_IF_SET(options, skip_special_tokens, request.skip_special_tokens);
  request.logprobs = {
      .output = options.logprobs(), .prompt = options.prompt_logprobs(), .top_n = options.top_logprobs()};
  if (options.top_logprobs() != 0 && !options.logprobs() && !options.prompt_logprobs()) {
    return BadValue("output.top_logprobs", "needs output.logprobs or output.prompt_logprobs");
  }
  return absl::OkStatus();
}

void SetSampling(const SamplingParams& sampling, v1::SamplingValues& out) {
  out.set_temperature(sampling.temperature);
  out.set_top_p(sampling.top_p);
  out.set_top_k(sampling.top_k);
  out.set_min_p(sampling.min_p);
  out.set_repetition_penalty(sampling.repetition_penalty);
  out.set_frequency_penalty(sampling.frequency_penalty);
  out.set_presence_penalty(sampling.presence_penalty);
}

}  // namespace

absl::Status CheckModelName(const std::string& name, const ServedModel& model) {
  if (name.empty()) return absl::OkStatus();
  if (std::find(model.names.begin(), model.names.end(), name) != model.names.end()) return absl::OkStatus();
  return WithReason(absl::StatusCode::kNotFound, "UNKNOWN_MODEL",
                    absl::StrCat("model: not served here; expected ", absl::StrJoin(model.names, " or "),
                                 ", or no name at all"));
}

absl::Status CheckRequestId(std::string_view id, int max_bytes) {
  const bool valid = !id.empty() && id.size() <= static_cast<size_t>(max_bytes) &&
                     std::all_of(id.begin(), id.end(), [](unsigned char c) {
                       return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == ':' || c == '-';
                     });
  if (valid) return absl::OkStatus();
  return BadValue("request_id", absl::StrCat("expected 1 to ", max_bytes, " characters of [A-Za-z0-9._:-]"));
}

absl::StatusOr<Request> ToRequest(const v1::GenerateRequest& message, const ServedModel& model) {
  Request request;
  YOIO_RETURN_IF_ERROR(CheckModelName(message.model(), model));
  YOIO_RETURN_IF_ERROR(CheckSupported(message));
  YOIO_RETURN_IF_ERROR(ReadPrompt(message, *model.info, request));
  ReadSampling(message.sampling(), request);
  YOIO_RETURN_IF_ERROR(ReadStop(message.stop(), *model.info, request));
  YOIO_RETURN_IF_ERROR(ReadOutput(message.output(), *model.info, request));
  YOIO_COPY_IF_SET(message, n, request.n);
  YOIO_RETURN_IF_ERROR(ReadScheduling(message, request));
  return request;
}

absl::StatusOr<Request> ToRequest(const v1::ScoreRequest& message, const ServedModel& model) {
  Request request;
  YOIO_RETURN_IF_ERROR(CheckModelName(message.model(), model));
  YOIO_RETURN_IF_ERROR(ReadPrompt(message, *model.info, request));
  request.score_only = true;
  request.output_text = false;
  request.logprobs = {.output = false, .prompt = true, .top_n = message.top_logprobs()};
  YOIO_RETURN_IF_ERROR(ReadScheduling(message, request));
  return request;
}

void ToProto(const Load& load, v1::GetLoadResponse& out) {
  out.set_running(load.running);
  out.set_waiting(load.waiting);
  out.set_waiting_tokens(load.waiting_tokens);
  out.set_free_blocks(load.free_blocks);
  out.set_total_blocks(load.total_blocks);
  out.set_steps(load.steps);
  out.set_generated_tokens(load.generated_tokens);
  out.set_prompt_tokens(load.prompt_tokens);
  out.set_cached_tokens(load.cached_tokens);
  out.set_cached_blocks(load.cached_blocks);
  out.set_preemptions(load.preemptions);
}

void ToProto(const ServedModel& model, v1::GetModelInfoResponse& out) {
  const ModelInfo& info = *model.info;
  out.mutable_names()->Assign(model.names.begin(), model.names.end());
  out.set_architecture(info.architecture);
  out.set_revision(info.revision);
  out.set_max_model_len(info.max_model_len);
  out.set_vocab_size(info.vocab_size);
  out.mutable_eos_ids()->Assign(info.eos_ids.begin(), info.eos_ids.end());
  out.set_has_tokenizer(info.has_tokenizer);
  SetSampling(info.defaults, *out.mutable_defaults());
  out.set_default_max_tokens(info.default_max_tokens);
  out.set_num_layers(info.num_layers);
  out.set_hidden_size(info.hidden_size);
  out.set_sliding_window(info.sliding_window);
  out.set_index_top_k(info.index_top_k);
}

void ToProto(const Limits& limits, const ModelInfo& model, Duration stall_timeout, v1::ServerLimits& out) {
  out.set_max_request_bytes(static_cast<int64_t>(limits.max_request_bytes));
  out.set_max_response_bytes(kMaxResponseBytes);
  out.set_max_n(limits.max_n);
  out.set_max_stop_strings(limits.max_stop_strings);
  out.set_max_stop_string_bytes(limits.max_stop_string_bytes);
  out.set_max_stop_ids(limits.max_stop_ids);
  out.set_max_logit_bias(limits.max_logit_bias);
  out.set_max_top_logprobs(limits.max_top_logprobs);
  out.set_max_request_id_bytes(limits.max_request_id_bytes);
  out.set_max_score_records(kMaxScoreRecords);
  out.set_max_model_len(model.max_model_len);
  out.set_max_sequences(limits.max_sequences);
  out.set_max_step_tokens(limits.max_step_tokens);
  ToProto(limits.max_request_time, *out.mutable_max_request_time());
  ToProto(stall_timeout, *out.mutable_stall_timeout());
  out.set_max_metadata_bytes(kMaxMetadataBytes);
  out.set_max_concurrent_streams(kMaxConcurrentStreams);
  out.set_max_cache_salt_bytes(limits.max_cache_salt_bytes);
  out.set_max_queued_requests(limits.max_queued_requests);
  out.set_max_queued_tokens(limits.max_queued_tokens);
  out.set_tenant_max_requests(limits.tenant.max_requests);
  out.set_tenant_max_queued_tokens(limits.tenant.max_queued_tokens);
  out.set_tenant_max_cache_share(limits.tenant.max_cache_share);
  ToProto(limits.max_token_gap, *out.mutable_max_token_gap());
}

void ToProto(Duration duration, google::protobuf::Duration& out) {
  const int64_t nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
  out.set_seconds(nanos / 1'000'000'000);
  out.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

absl::StatusOr<Duration> PositiveDuration(const google::protobuf::Duration& duration,
                                          std::string_view field) {
  const int64_t seconds = duration.seconds();
  const int32_t nanos = duration.nanos();
  const bool well_formed =
      seconds >= 0 && seconds <= kMaxDurationSeconds && nanos >= 0 && nanos <= 999'999'999;
  if (!well_formed || (seconds == 0 && nanos == 0)) {
    return BadValue({field.data(), field.size()}, "expected a duration above 0 and at most ten years");
  }
  return std::chrono::seconds(seconds) + std::chrono::nanoseconds(nanos);
}

}  // namespace yoio
