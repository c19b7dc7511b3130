// `yoio generate`: continues a prompt and shows the output as it arrives.
#include <unistd.h>

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
#include "client/commands/request_picture.h"
#include "client/commands/seconds.h"
#include "client/commands/step_picture.h"
#include "client/commands/text_stream.h"
#include "client/commands/timing.h"
#include "client/commands/traceparent.h"
#include "client/commands/traces.h"
#include "client/commands/waiting_line.h"
#include "client/error_details.h"

namespace yoio {
namespace {

// Copies an option that was given into an optional field of a message.
template <typename Message, typename Value, typename Field>
void Set(Message* message, void (Message::*set)(Field), const std::optional<Value>& value) {
  if (value) (message->*set)(*value);
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
    AddTraceOptions();
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

  void AddTraceOptions() {
    const char* const group = "Tracing";
    CLI::Validator check(CheckTraceparent, "");
    app_.add_flag("--trace", trace_, "Afterwards draw where the time went, on standard error")->group(group);
    app_.add_option("--traceparent", traceparent_,
                    "The trace that the request is a part of; with --trace else one is drawn")
        ->type_name("VALUE")
        ->check(check)
        ->group(group);
    app_.add_option("--admin-server", admin_server_, "With --trace: ask this admin listener for the steps")
        ->type_name("HOST:PORT")
        ->envname("YOIOCLI_ADMIN_SERVER")
        ->group(group);
    app_.add_option("--admin-token-file", admin_token_file_, "The token of --admin-server")
        ->type_name("FILE")
        ->envname("YOIOCLI_ADMIN_TOKEN_FILE")
        ->group(group);
    app_.add_flag("--ascii", ascii_, "Draw with ASCII; else the locale tells")->group(group);
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
    options.traceparent = traceparent_.empty() && trace_ ? DrawTraceparent() : traceparent_;

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
    AddOutcome(status, record);
    if (timing_ && (status.ok() || record.timing.has_total()))
      std::fputs(TimingBlock(record).c_str(), stderr);
    if (trace_ && !record.request_id.empty()) Draw(status, record, TraceIdOf(options.traceparent), *channel);
    return status.ok() ? kDone : ReportFailedCall(status, server_);
  }

  // What a failed call says of the request.
  static void AddOutcome(const absl::Status& status, RequestRecord& record) {
    const ErrorDetails details = DetailsOf(status);
    if (details.timing) record.timing = *details.timing;
    if (details.timing) record.usage.set_completion_tokens(static_cast<int32_t>(details.tokens_sent));
    if (record.request_id.empty()) record.request_id = details.request_id;
  }

  // The bars of what the server told, and the slowest steps if there is an admin listener to ask.
  void Draw(const absl::Status& status, const RequestRecord& record, const std::string& trace_id,
            const ChannelOptions& channel) const {
    v1::RequestTrace trace;
    trace.set_request_id(record.request_id);
    trace.set_code(status.raw_code());
    trace.set_reason(DetailsOf(status).reason);
    *trace.mutable_usage() = record.usage;
    *trace.mutable_timing() = record.timing;
    trace.mutable_timing()->set_trace_id(trace_id);
    const Terminal terminal = TerminalOf(STDERR_FILENO, ascii_);
    const std::vector<v1::RequestTrace> known = AskAdmin(record, channel);
    if (!known.empty()) {
      *trace.mutable_arrival() = known.front().arrival();
      *trace.mutable_steps() = known.front().steps();
    }
    std::fputs(RequestPicture(trace, terminal).c_str(), stderr);
    const std::string steps = SlowestSteps(trace, kSlowestSteps, terminal);
    if (!steps.empty()) std::fprintf(stderr, "\n%s", steps.c_str());
  }

  // The traces of the request, the first one its own. Empty when there is nobody to ask, or no answer, which
  // has been reported: the request itself has its outcome already.
  std::vector<v1::RequestTrace> AskAdmin(const RequestRecord& record, const ChannelOptions& data) const {
    if (admin_server_.empty() || admin_token_file_.empty()) return {};
    ChannelOptions channel;
    channel.server = admin_server_;
    CredentialFiles token;
    token.api_key = admin_token_file_;
    if (const absl::Status status = ReadCredentials(token, channel); !status.ok()) {
      PrintError(status.message(), "Correct --admin-token-file.");
      return {};
    }
    channel.tls = data.tls;
    AdminClient client(channel);
    v1::GetTracesRequest request;
    request.set_request_id(record.request_id);
    request.set_steps(true);
    const auto traces = FetchTraces(client, request, Options());
    if (traces.ok()) return *traces;
    ReportFailedCall(traces.status(), admin_server_, kAdminListener);
    return {};
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
      record.usage.set_prompt_tokens(event.accepted().prompt_tokens());
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
  std::string traceparent_, admin_server_, admin_token_file_;
  bool trace_ = false, ascii_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeGenerateCommand(CLI::App& program) {
  return std::make_unique<GenerateCommand>(
      *program.add_subcommand("generate", "Continue a prompt and show the output as it arrives"));
}

}  // namespace yoio
