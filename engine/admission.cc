#include "engine/admission.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "engine/errors.h"

namespace yoio {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A number that may be left open must lie in [low, high], or (low, high] when `open`. NaN never does.
template <typename T>
absl::Status InRange(const char* field, const std::optional<T>& value, double low, double high,
                     bool open = false) {
  if (!value.has_value()) return absl::OkStatus();
  const double number = static_cast<double>(*value);
  const bool inside = (open ? number > low : number >= low) && number <= high && std::isfinite(number);
  if (inside) return absl::OkStatus();
  std::string expected;
  if (low == -kInfinity) {
    expected = "finite";
  } else if (high < kInfinity) {
    expected = absl::StrFormat("in %c%g, %g]", open ? '(' : '[', low, high);
  } else if (std::is_integral_v<T>) {
    expected = absl::StrFormat("at least %g", low);
  } else {
    expected = absl::StrFormat("a finite number %s %g", open ? "above" : "of at least", low);
  }
  return absl::InvalidArgumentError(absl::StrFormat("%s must be %s, got %.10g", field, expected, number));
}

absl::Status AtMost(const char* field, size_t count, int64_t most, const char* unit) {
  if (static_cast<int64_t>(count) <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s must have at most %d %s, got %d", field, most, unit, count));
}

absl::Status InVocabulary(const char* field, int32_t id, const ModelInfo& model) {
  if (id >= 0 && id < model.vocab_size) return absl::OkStatus();
  // The id itself stays unsaid: what a caller sends appears in no error.
  return absl::InvalidArgumentError(
      absl::StrFormat("%s must hold token ids in [0, %d)", field, model.vocab_size));
}

absl::Status CheckSampling(const Request& request, const ModelInfo& model, const Limits& limits) {
  YOIO_RETURN_IF_ERROR(InRange("temperature", request.temperature, 0, kInfinity));
  YOIO_RETURN_IF_ERROR(InRange("top_p", request.top_p, 0, 1, /*open=*/true));
  YOIO_RETURN_IF_ERROR(InRange("top_k", request.top_k, 0, kInfinity));
  YOIO_RETURN_IF_ERROR(InRange("min_p", request.min_p, 0, 1));
  YOIO_RETURN_IF_ERROR(
      InRange("repetition_penalty", request.repetition_penalty, 0, kInfinity, /*open=*/true));
  YOIO_RETURN_IF_ERROR(InRange("frequency_penalty", request.frequency_penalty, -2, 2));
  YOIO_RETURN_IF_ERROR(InRange("presence_penalty", request.presence_penalty, -2, 2));
  YOIO_RETURN_IF_ERROR(AtMost("logit_bias", request.logit_bias.size(), limits.max_logit_bias, "entries"));
  absl::flat_hash_set<int32_t> biased;
  for (const auto& [id, bias] : request.logit_bias) {
    YOIO_RETURN_IF_ERROR(InVocabulary("logit_bias", id, model));
    YOIO_RETURN_IF_ERROR(InRange<float>("logit_bias", bias, -kInfinity, kInfinity));
    if (!biased.insert(id).second) {
      return absl::InvalidArgumentError("logit_bias must name each token id once");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStops(const Request& request, const ModelInfo& model, const Limits& limits) {
  const StopParams& stop = request.stop;
  YOIO_RETURN_IF_ERROR(AtMost("stop_ids", stop.stop_ids.size(), limits.max_stop_ids, "ids"));
  for (const int32_t id : stop.stop_ids) YOIO_RETURN_IF_ERROR(InVocabulary("stop_ids", id, model));
  YOIO_RETURN_IF_ERROR(AtMost("stop_strings", stop.stop_strings.size(), limits.max_stop_strings, "strings"));
  for (const std::string& text : stop.stop_strings) {
    if (text.empty()) return absl::InvalidArgumentError("stop_strings must hold no empty string");
    YOIO_RETURN_IF_ERROR(
        AtMost("stop_strings", text.size(), limits.max_stop_string_bytes, "bytes in each string"));
  }
  YOIO_RETURN_IF_ERROR(InRange<int32_t>("min_tokens", stop.min_tokens, 0, kInfinity));
  YOIO_RETURN_IF_ERROR(InRange("max_tokens", request.max_tokens, 1, kInfinity));
  if (request.max_tokens.has_value() && stop.min_tokens > *request.max_tokens) {
    return absl::InvalidArgumentError(absl::StrFormat("min_tokens must be at most max_tokens, got %d and %d",
                                                      stop.min_tokens, *request.max_tokens));
  }
  return absl::OkStatus();
}

absl::Status CheckTokenizer(const Request& request, const ModelInfo& model) {
  if (model.has_tokenizer) return absl::OkStatus();
  const auto needs = [](const char* field) {
    return absl::UnimplementedError(
        absl::StrCat(field, " needs a tokenizer, and this model has none: send and ask for token ids"));
  };
  if (std::holds_alternative<std::string>(request.prompt)) return needs("text");
  if (!request.stop.stop_strings.empty()) return needs("stop_strings");
  if (request.output_text && !request.score_only) return needs("output_text");
  return absl::OkStatus();
}

absl::Status CheckTimes(const Request& request) {
  const auto positive = [](const char* field, const std::optional<Duration>& duration) {
    if (!duration.has_value() || *duration > Duration::zero()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(field, " must be above 0"));
  };
  YOIO_RETURN_IF_ERROR(positive("time_budget", request.time_budget));
  const LatencyTargets& targets = request.targets;
  YOIO_RETURN_IF_ERROR(positive("latency_targets.time_to_first_token", targets.time_to_first_token));
  YOIO_RETURN_IF_ERROR(positive("latency_targets.time_per_output_token", targets.time_per_output_token));
  return positive("latency_targets.total", targets.total);
}

absl::Status TooLong(std::string_view message) {
  return WithReason(absl::StatusCode::kInvalidArgument, kReasonPromptTooLong, message);
}

uint64_t DrawSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

absl::Status CheckRequest(const Request& request, const ModelInfo& model, const Limits& limits) {
  YOIO_RETURN_IF_ERROR(CheckTokenizer(request, model));
  if (const auto* text = std::get_if<std::string>(&request.prompt)) {
    if (text->empty()) return absl::InvalidArgumentError("prompt must not be empty");
    YOIO_RETURN_IF_ERROR(
        AtMost("prompt", text->size(), static_cast<int64_t>(limits.max_request_bytes), "bytes"));
  } else {
    YOIO_RETURN_IF_ERROR(CheckPrompt(request, std::get<std::vector<int32_t>>(request.prompt), model));
  }
  YOIO_RETURN_IF_ERROR(CheckSampling(request, model, limits));
  YOIO_RETURN_IF_ERROR(CheckStops(request, model, limits));
  YOIO_RETURN_IF_ERROR(InRange<int32_t>("n", request.n, 1, std::min(limits.max_n, limits.max_sequences)));
  YOIO_RETURN_IF_ERROR(CheckTimes(request));
  YOIO_RETURN_IF_ERROR(AtMost("cache.salt", request.cache.salt.size(), limits.max_cache_salt_bytes, "bytes"));
  return InRange<int32_t>("top_logprobs", request.logprobs.top_n, 0,
                          std::min(limits.max_top_logprobs, model.vocab_size));
}

absl::Status CheckPrompt(const Request& request, std::span<const int32_t> prompt, const ModelInfo& model) {
  if (prompt.empty()) return absl::InvalidArgumentError("prompt must not be empty");
  for (const int32_t id : prompt) YOIO_RETURN_IF_ERROR(InVocabulary("prompt", id, model));
  const int64_t tokens = static_cast<int64_t>(prompt.size());
  if (request.score_only) {
    if (tokens < 2)
      return absl::InvalidArgumentError("prompt must have at least 2 tokens to be scored, got 1");
    if (tokens <= model.max_model_len) return absl::OkStatus();
    return TooLong(
        absl::StrFormat("prompt must have at most %d tokens, got %d", model.max_model_len, tokens));
  }
  if (tokens >= model.max_model_len) {
    return TooLong(absl::StrFormat("prompt must leave room for output: at most %d tokens, got %d",
                                   model.max_model_len - 1, tokens));
  }
  const int64_t max_tokens = request.max_tokens.value_or(1);
  if (tokens + max_tokens <= model.max_model_len) return absl::OkStatus();
  return TooLong(absl::StrFormat("prompt + max_tokens must be at most %d tokens, got %d + %d",
                                 model.max_model_len, tokens, max_tokens));
}

void Resolve(const Request& request, std::vector<int32_t> prompt, const ModelInfo& model,
             SequenceGroup& group) {
  const int32_t room = model.max_model_len - static_cast<int32_t>(prompt.size());
  group.prompt = std::move(prompt);
  SamplingParams& sampling = group.sampling;
  sampling = model.defaults;
  sampling.temperature = request.temperature.value_or(sampling.temperature);
  sampling.top_p = request.top_p.value_or(sampling.top_p);
  sampling.top_k = request.top_k.value_or(sampling.top_k);
  sampling.min_p = request.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = request.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.frequency_penalty = request.frequency_penalty.value_or(sampling.frequency_penalty);
  sampling.presence_penalty = request.presence_penalty.value_or(sampling.presence_penalty);
  sampling.seed = request.seed.has_value() ? *request.seed : DrawSeed();
  sampling.logit_bias = request.logit_bias;

  group.logprobs = request.logprobs;
  group.logprobs.prompt |= request.score_only;
  group.stop_ids = request.stop.stop_ids;
  if (!request.stop.ignore_eos) {
    group.stop_ids.insert(group.stop_ids.end(), model.eos_ids.begin(), model.eos_ids.end());
  }
  group.score_only = request.score_only;
  group.n = request.score_only ? 1 : request.n;
  group.max_tokens =
      request.score_only ? 0 : request.max_tokens.value_or(std::min(model.default_max_tokens, room));
  group.min_tokens = std::min(request.stop.min_tokens, group.max_tokens);

  group.tenant = request.tenant;
  group.tenant_limits = request.tenant_limits;
  group.priority = request.priority;
  group.arrival = request.arrival;
  group.cache = request.cache;
}

}  // namespace yoio
