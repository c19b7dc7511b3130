// `yoio generate`: continues a prompt and shows the output as it arrives.
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/commands/command.h"
#include "client/commands/interrupt.h"
#include "client/commands/prompt.h"
#include "client/commands/report.h"
#include "client/commands/text_stream.h"
#include "client/commands/timing.h"
#include "client/commands/waiting_line.h"

namespace yoio {
namespace {

// Copies an option that was given into an optional field of a message.
template <typename Message, typename Value, typename Field>
void Set(Message* message, void (Message::*set)(Field), const std::optional<Value>& value) {
  if (value) (message->*set)(*value);
}

google::protobuf::Duration ToProto(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  google::protobuf::Duration duration;
  duration.set_seconds(whole);
  duration.set_nanos(static_cast<int32_t>((seconds - static_cast<double>(whole)) * 1e9));
  return duration;
}

// "123=-1.5" -> (123, -1.5).
std::optional<std::pair<int32_t, float>> ParseBias(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '=');
  std::pair<int32_t, float> bias;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &bias.first) ||
      !absl::SimpleAtof(parts[1], &bias.second)) {
    return std::nullopt;
  }
  return bias;
}

std::string CheckBias(const std::string& text) {
  return ParseBias(text) ? "" : absl::StrCat("expected ID=VALUE, got ", text);
}

class GenerateCommand : public Command {
 public:
  explicit GenerateCommand(CLI::App& app) : Command(app) {
    prompt_.AddTo(app, /*with_ids=*/true);
    app.add_option("--model", model_, "The model; else the one that is served")->type_name("NAME");
    app.add_option("--request-id", request_id_, "Names the request; else the server draws one")
        ->type_name("ID");
    app.add_option("-n,--choices", n_, "Choices drawn from the same prompt")->type_name("COUNT");
    AddSamplingOptions();
    AddStopOptions();
    AddOutputOptions();
    AddCommonOptions(kDataServer, "YOIOCLI_SERVER");
    AddCredentialOptions();
    AddTimeoutOption();
    AddSecondsOption("--time-budget", time_budget_, "End well with what is ready after this");
  }

  int Run() override {
    if (!json_ && (ids_ || logprobs_ || prompt_logprobs_)) {
      PrintError("--ids, --logprobs and --prompt-logprobs are shown in JSON only", "Add --json.");
      return kUsage;
    }
    std::string what_to_do;
    const absl::StatusOr<Prompt> prompt = prompt_.Read(what_to_do);
    if (!prompt.ok()) {
      PrintError(prompt.status().message(), what_to_do);
      return kUsage;
    }
    return Send(MakeRequest(*prompt));
  }

 private:
  void AddSamplingOptions() {
    const auto add = [this](const char* name, auto& value, const char* help) {
      return app_.add_option(name, value, help)->group("Sampling (defaults: yoio info)")->type_name("VALUE");
    };
    add("--temperature", temperature_, "Divides the logits; 0 is greedy");
    add("--top-p", top_p_, "Keep the likeliest tokens with this much probability");
    add("--top-k", top_k_, "Keep this many of the likeliest tokens; 0 is all");
    add("--min-p", min_p_, "Keep tokens this likely beside the likeliest; 0 is all");
    add("--repetition-penalty", repetition_penalty_, "Makes tokens seen before less likely; 1 is none");
    add("--frequency-penalty", frequency_penalty_, "Subtracted for each time a token was generated");
    add("--presence-penalty", presence_penalty_, "Subtracted if a token was generated");
    add("--seed", seed_, "The same seed gives the same output; else one is drawn");
    add("--logit-bias", logit_bias_, "Added to the logit of a token; may be repeated")
        ->type_name("ID=VALUE")
        ->allow_extra_args(false)
        ->check(&CheckBias);
  }

  void AddStopOptions() {
    const auto add = [this](const char* name, auto& value, const char* help) {
      return app_.add_option(name, value, help)->group("Stop");
    };
    add("--max-tokens", max_tokens_, "Most tokens of one choice")->type_name("COUNT");
    add("--min-tokens", min_tokens_, "No end before this many tokens")->type_name("COUNT");
    add("--stop", stop_strings_, "End at this string; may be repeated")
        ->type_name("STRING")
        ->allow_extra_args(false);
    add("--stop-id", stop_ids_, "End at this token id; may be repeated")
        ->type_name("ID")
        ->allow_extra_args(false);
    app_.add_flag("--include-stop", include_stop_, "Leave the stop string in the text")->group("Stop");
    app_.add_flag("--ignore-eos", ignore_eos_, "Go on past an end-of-sequence token")->group("Stop");
  }

  void AddOutputOptions() {
    const auto flag = [this](const char* name, bool& value, const char* help) {
      app_.add_flag(name, value, help)->group("Output");
    };
    flag("--timing", timing_, "Afterwards print where the time went, on standard error");
    flag("--progress", progress_, "While nothing arrives print a line a second, on standard error");
    flag("--special-tokens", special_tokens_, "Special tokens leave their text");
    flag("--ids", ids_, "Return token ids (with --json)");
    flag("--logprobs", logprobs_, "Return a log-probability for each token (with --json)");
    flag("--prompt-logprobs", prompt_logprobs_, "Score the prompt's tokens too (with --json)");
    app_.add_option("--top-logprobs", top_logprobs_, "Alternatives beside each token")
        ->type_name("COUNT")
        ->group("Output");
  }

  v1::GenerateRequest MakeRequest(const Prompt& prompt) const {
    using Request = v1::GenerateRequest;
    Request request;
    SetPrompt(prompt, request);
    if (request_id_) request.set_request_id(*request_id_);
    if (model_) request.set_model(*model_);
    Set(&request, &Request::set_n, n_);
    if (time_budget_) *request.mutable_time_budget() = ToProto(*time_budget_);
    FillSampling(request.mutable_sampling());
    FillStop(request.mutable_stop());
    FillOutput(request.mutable_output());
    return request;
  }

  void FillSampling(v1::SamplingOptions* sampling) const {
    using Sampling = v1::SamplingOptions;
    Set(sampling, &Sampling::set_temperature, temperature_);
    Set(sampling, &Sampling::set_top_p, top_p_);
    Set(sampling, &Sampling::set_top_k, top_k_);
    Set(sampling, &Sampling::set_min_p, min_p_);
    Set(sampling, &Sampling::set_repetition_penalty, repetition_penalty_);
    Set(sampling, &Sampling::set_frequency_penalty, frequency_penalty_);
    Set(sampling, &Sampling::set_presence_penalty, presence_penalty_);
    Set(sampling, &Sampling::set_seed, seed_);
    for (const std::string& text : logit_bias_) {
      const auto [id, value] = *ParseBias(text);
      (*sampling->mutable_logit_bias())[id] = value;
    }
  }

  void FillStop(v1::StopOptions* stop) const {
    using Stop = v1::StopOptions;
    Set(stop, &Stop::set_max_tokens, max_tokens_);
    Set(stop, &Stop::set_min_tokens, min_tokens_);
    if (ignore_eos_) stop->set_ignore_eos(true);
    if (include_stop_) stop->set_include_stop(true);
    for (const std::string& text : stop_strings_) stop->add_stop_strings(text);
    for (const int32_t id : stop_ids_) stop->add_stop_ids(id);
  }

  void FillOutput(v1::OutputOptions* output) const {
    if (ids_) output->set_ids(true);
    if (logprobs_) output->set_logprobs(true);
    if (prompt_logprobs_) output->set_prompt_logprobs(true);
    if (special_tokens_) output->set_skip_special_tokens(false);
    Set(output, &v1::OutputOptions::set_top_logprobs, top_logprobs_);
  }

  int Send(const v1::GenerateRequest& request) {
    Cancellation cancellation;
    const InterruptCancels interrupt(cancellation);
    CallOptions options = Options();
    options.cancellation = &cancellation;

    const std::optional<ChannelOptions> channel = Channel();
    if (!channel) return kUsage;
    Client client(*channel);
    TextStream text(n_.value_or(1), &PrintNow);
    std::optional<WaitingLine> waiting;
    if (progress_) waiting.emplace();
    RequestRecord record;
    const auto on_event = [&](const v1::GenerateResponse& event) {
      Show(event, waiting, text, record);
      return true;
    };
    const absl::Status status = client.Generate(request, on_event, options);
    if (waiting) waiting->Stop();
    if (!json_) text.Flush();
    if (!status.ok()) return ReportFailedCall(status, server_);
    if (timing_) std::fputs(TimingBlock(record).c_str(), stderr);
    return kDone;
  }

  void Show(const v1::GenerateResponse& event, std::optional<WaitingLine>& waiting, TextStream& text,
            RequestRecord& record) const {
    if (waiting) {
      if (event.has_accepted()) {
        waiting->Accepted(event.accepted().prompt_tokens());
      } else if (event.has_progress()) {
        waiting->Progress(event.progress());
      } else {
        waiting->Stop();
      }
    }
    if (event.has_accepted()) {
      record.request_id = event.accepted().request_id();
    } else if (event.has_finished()) {
      absl::StrAppend(&record.endings, record.endings.empty() ? "" : ", ",
                      ShortName(event.finished().reason()));
    } else if (event.has_summary()) {
      record.usage = event.summary().usage();
      record.timing = event.summary().timing();
    }
    if (json_) {
      PrintJson(event);
    } else if (event.has_delta()) {
      text.Add(event.delta());
    } else if (event.has_finished()) {
      text.Add(event.finished());
    }
  }

  PromptOptions prompt_;
  std::optional<std::string> model_, request_id_;
  std::optional<float> temperature_, top_p_, min_p_;
  std::optional<float> repetition_penalty_, frequency_penalty_, presence_penalty_;
  std::optional<int32_t> n_, top_k_, max_tokens_, min_tokens_, top_logprobs_;
  std::optional<uint64_t> seed_;
  std::optional<double> time_budget_;
  std::vector<std::string> logit_bias_, stop_strings_;
  std::vector<int32_t> stop_ids_;
  bool ignore_eos_ = false, include_stop_ = false, special_tokens_ = false;
  bool ids_ = false, logprobs_ = false, prompt_logprobs_ = false;
  bool timing_ = false, progress_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeGenerateCommand(CLI::App& program) {
  return std::make_unique<GenerateCommand>(
      *program.add_subcommand("generate", "Continue a prompt and show the output as it arrives"));
}

}  // namespace yoio
