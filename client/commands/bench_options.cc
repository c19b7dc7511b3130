#include "client/commands/bench_options.h"

#include <cmath>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace yoio {
namespace {

// What has an option of its own value and, after a colon, seconds.
struct ShareAndSeconds {
  double share = 0;
  std::optional<Duration> seconds;
};

absl::StatusOr<ShareAndSeconds> ParseInjection(const char* option, const std::string& text) {
  ShareAndSeconds result;
  if (text.empty()) return result;
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  double seconds = 0;
  if (parts.size() > 2 || !absl::SimpleAtod(parts[0], &result.share) || !(result.share >= 0) ||
      result.share > 1 ||
      (parts.size() == 2 &&
       (!absl::SimpleAtod(parts[1], &seconds) || !(seconds > 0) || !std::isfinite(seconds)))) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, ": expected SHARE or SHARE:SECONDS with SHARE from 0 to 1, got ", text));
  }
  if (parts.size() == 2) result.seconds = FromSeconds(seconds);
  return result;
}

absl::Status In(const char* option, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(option, ": ", status.message()));
}

std::optional<Duration> ToDuration(const std::optional<double>& seconds) {
  return seconds ? std::optional(FromSeconds(*seconds)) : std::nullopt;
}

}  // namespace

void BenchOptions::AddTo(CLI::App& app) {
  AddLoadOptions(app);
  AddRequestOptions(app);
  AddInjectionOptions(app);
  AddOutputOptions(app);
}

void BenchOptions::AddLoadOptions(CLI::App& app) {
  const auto add = [&app](const char* name, auto& value, const char* type, const char* help) {
    return app.add_option(name, value, help)->type_name(type)->group("Load");
  };
  add("--concurrency", concurrency_, "COUNT", "Closed loop: this many requests at a time")
      ->check(CLI::PositiveNumber.description(""));
  add("--rate", rate_, "RATE", "Open loop: requests a second, whatever the answers do")
      ->check(CLI::PositiveNumber.description(""));
  add("--ramp", ramp_, "FROM:TO:SECONDS", "Open loop: a rate that changes, then stays");
  app.add_flag("--poisson", poisson_, "Open loop: random gaps; else even ones")->group("Load");
  add("--sweep", sweep_, "R1,R2,... or FROM:TO:STEPS", "One open-loop run at each of these rates");
  app.add_flag("--saturation", saturation_, "Find the highest rate that answers keep up with, in six runs")
      ->group("Load");
  add("--requests", requests_, "COUNT", "End after this many; those of the warm-up do not count")
      ->check(CLI::PositiveNumber.description(""));
  add("--duration", duration_, "SECONDS", "End after this; default 10 without --requests")
      ->check(CLI::PositiveNumber.description(""));
  add("--warm-up", warm_up_, "SECONDS", "Send before that, measuring nothing")
      ->check(CLI::NonNegativeNumber.description(""));
  add("--drain", drain_, "SECONDS", "Afterwards wait at most this for what still runs, then cut it off")
      ->check(CLI::NonNegativeNumber.description(""));
  add("--connections", connections_, "COUNT", "Connections, used in turn")
      ->check(CLI::PositiveNumber.description(""))
      ->capture_default_str();
  add("--seed", seed_, "SEED", "The same seed sends the same requests; a sweep counts on from it")
      ->capture_default_str();
}

void BenchOptions::AddRequestOptions(CLI::App& app) {
  const auto add = [&app](const char* name, auto& value, const char* type, const char* help) {
    return app.add_option(name, value, help)->type_name(type)->group("Requests");
  };
  add("--prompt-tokens", prompt_tokens_, "LENGTHS", "Length of prompts; see below")->capture_default_str();
  add("--output-tokens", output_tokens_, "LENGTHS", "Length of outputs, exact")->capture_default_str();
  add("--trace", trace_, "FILE", "Lengths, prefixes and times from a file; see below");
  add("--shared-prefix", shared_prefix_, "TOKENS:SHARE[:GROUPS]",
      "A share of prompts begins with one of GROUPS texts");
  add("--priority", priority_, "CLASS:SHARE,...", "Shares with priority low, normal or high");
  add("--deadline", deadline_, "SECONDS", "gRPC deadline of every request")
      ->check(CLI::PositiveNumber.description(""));
  add("--model", model_, "NAME", "The model; else the one that is served");
  add("--temperature", temperature_, "VALUE", "0 is greedy; default: the model's");
  app.add_flag("--text", text_, "Ask for text beside token ids")->group("Requests");
  app.add_flag("--bypass-cache", bypass_cache_, "Ask not to use the prefix cache")->group("Requests");
}

void BenchOptions::AddInjectionOptions(CLI::App& app) {
  const auto add = [&app](const char* name, std::string& value, const char* help) {
    app.add_option(name, value, help)->type_name("SHARE[:SECONDS]")->group("Injections");
  };
  add("--cancel", cancel_, "Cancelled after 0 to SECONDS, or else after 0 to all its tokens");
  add("--expire", expire_, "With a deadline of 0 to SECONDS; default 0.1");
  add("--slow-reader", slow_reader_, "Stops reading once for SECONDS, or a tenth each time; default 2");
}

void BenchOptions::AddOutputOptions(CLI::App& app) {
  const auto add = [&app](const char* name, auto& value, const char* type, const char* help) {
    return app.add_option(name, value, help)->type_name(type)->group("Output");
  };
  const auto target = [&add](const char* name, auto& value, const char* help) {
    add(name, value, "SECONDS", help)->check(CLI::PositiveNumber.description(""));
  };
  target("--target-ttft", target_ttft_, "Good requests have their first token by then");
  target("--target-itl", target_itl_, "Good requests take at most this for each further token, on average");
  target("--target-e2e", target_e2e_, "Good requests have ended by then");
  add("--plot", plot_, "FILE", "Draw the sweep as SVG");
}

absl::Status BenchOptions::CheckLoad() const {
  const int loops = (concurrency_ > 0) + rate_.has_value() + !ramp_.empty() + !sweep_.empty();
  if (saturation_ ? rate_ || !ramp_.empty() || !sweep_.empty() : loops > 1) {
    return absl::InvalidArgumentError(
        "only one of --concurrency, --rate, --ramp, --sweep and --saturation (which may have --concurrency)");
  }
  if (loops == 0 && trace_.empty() && !saturation_) {
    return absl::InvalidArgumentError(
        "one of --concurrency, --rate, --ramp, --sweep, --saturation and --trace is needed");
  }
  if (!plot_.empty() && sweep_.empty()) return absl::InvalidArgumentError("--plot needs --sweep");
  return absl::OkStatus();
}

absl::StatusOr<LoadOptions> BenchOptions::Load() const {
  if (const absl::Status status = CheckLoad(); !status.ok()) return status;
  LoadOptions load;
  if (rate_) load.rate = RateOptions{*rate_, *rate_, {}, poisson_};
  if (!ramp_.empty()) {
    const absl::StatusOr<RateOptions> ramp = ParseRamp(ramp_);
    if (!ramp.ok()) return In("--ramp", ramp.status());
    load.rate = *ramp;
    load.rate->poisson = poisson_;
  }
  load.concurrency = concurrency_;
  load.trace_times = !trace_.empty() && concurrency_ == 0 && !load.rate && sweep_.empty() && !saturation_;
  load.requests = requests_;
  const double default_duration = requests_ == 0 && !load.trace_times ? 10 : 0;
  load.duration = FromSeconds(duration_ > 0 ? duration_ : default_duration);
  load.warm_up = FromSeconds(warm_up_);
  load.drain = ToDuration(drain_);
  const auto cancel = ParseInjection("--cancel", cancel_);
  const auto expire = ParseInjection("--expire", expire_);
  const auto slow = ParseInjection("--slow-reader", slow_reader_);
  for (const auto* injection : {&cancel, &expire, &slow}) {
    if (!injection->ok()) return injection->status();
  }
  load.stream.deadline = ToDuration(deadline_);
  load.stream.cancel_within = cancel->seconds;
  load.stream.expire_within = expire->seconds.value_or(FromSeconds(0.1));
  load.stream.slow_for = slow->seconds.value_or(FromSeconds(2));
  load.targets = {ToDuration(target_ttft_), ToDuration(target_itl_), ToDuration(target_e2e_)};
  if (!model_.empty()) load.request.set_model(model_);
  if (temperature_) load.request.mutable_sampling()->set_temperature(static_cast<float>(*temperature_));
  if (bypass_cache_) load.request.mutable_cache()->set_bypass(true);
  load.request.mutable_stop()->set_ignore_eos(true);
  load.request.mutable_output()->set_ids(true);
  load.request.mutable_output()->set_text(text_);
  return load;
}

absl::StatusOr<WorkloadOptions> BenchOptions::Workload(const v1::GetModelInfoResponse& model) const {
  WorkloadOptions workload;
  const auto prompt = Lengths::Parse(prompt_tokens_), output = Lengths::Parse(output_tokens_);
  if (!prompt.ok()) return In("--prompt-tokens", prompt.status());
  if (!output.ok()) return In("--output-tokens", output.status());
  const int64_t longest = int64_t{prompt->longest()} + output->longest();
  if (trace_.empty() && longest > model.max_model_len()) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt and output of ", longest, " tokens: the model takes ", model.max_model_len()));
  }
  workload.prompt_lengths = *prompt;
  workload.output_lengths = *output;
  if (!trace_.empty()) {
    std::ifstream file(trace_);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) return absl::InvalidArgumentError(absl::StrCat("--trace: cannot read ", trace_));
    const absl::StatusOr<Trace> trace = ParseTrace(text.str());
    if (!trace.ok()) return In("--trace", trace.status());
    workload.trace = *trace;
  }
  if (!shared_prefix_.empty()) {
    const absl::StatusOr<SharedPrefix> prefix = ParseSharedPrefix(shared_prefix_);
    if (!prefix.ok()) return In("--shared-prefix", prefix.status());
    workload.shared_prefix = *prefix;
  }
  if (!priority_.empty()) {
    const auto priorities = ParsePriorities(priority_);
    if (!priorities.ok()) return In("--priority", priorities.status());
    workload.priorities = *priorities;
  }
  workload.injections = {0, ParseInjection("", cancel_)->share, ParseInjection("", expire_)->share,
                         ParseInjection("", slow_reader_)->share};
  if (workload.injections[1] + workload.injections[2] + workload.injections[3] > 1) {
    return absl::InvalidArgumentError("--cancel, --expire and --slow-reader: more than all requests");
  }
  workload.seed = seed_;
  workload.vocab_size = model.vocab_size();
  workload.max_model_len = model.max_model_len();
  return workload;
}

absl::StatusOr<std::vector<double>> BenchOptions::SweepRates() const {
  std::vector<double> rates;
  const absl::Status wrong = absl::InvalidArgumentError(
      absl::StrCat("--sweep: expected R1,R2,... or FROM:TO:STEPS, all above 0, got ", sweep_));
  if (sweep_.empty()) return rates;
  const auto positive = [](absl::string_view text, double& value) {
    return absl::SimpleAtod(text, &value) && value > 0 && std::isfinite(value);
  };
  if (sweep_.find(':') == std::string::npos) {
    for (absl::string_view part : absl::StrSplit(sweep_, ',')) {
      if (!positive(part, rates.emplace_back())) return wrong;
    }
    return rates;
  }
  const std::vector<std::string> parts = absl::StrSplit(sweep_, ':');
  double from = 0, to = 0;
  int steps = 0;
  if (parts.size() != 3 || !positive(parts[0], from) || !positive(parts[1], to) ||
      !absl::SimpleAtoi(parts[2], &steps) || steps < 2 || steps > 1000) {
    return wrong;
  }
  for (int i = 0; i < steps; ++i) rates.push_back(from + (to - from) * i / (steps - 1));
  return rates;
}

}  // namespace yoio
