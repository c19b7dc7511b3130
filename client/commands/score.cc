// `yoio score`: tells how likely each token of a text is.
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/command.h"
#include "client/commands/interrupt.h"
#include "client/commands/prompt.h"
#include "client/commands/report.h"

namespace yoio {
namespace {

class ScoreCommand : public Command {
 public:
  explicit ScoreCommand(CLI::App& app) : Command(app) {
    prompt_.AddTo(app, /*with_ids=*/true);
    app.add_option("--model", model_, "The model; else the one that is served")->type_name("NAME");
    app.add_option("--request-id", request_id_, "Names the request; else the server draws one")
        ->type_name("ID");
    app.add_option("--top-logprobs", top_logprobs_, "Alternatives beside each token (with --json)")
        ->type_name("COUNT");
    app.add_flag("--tokens", tokens_, "Print position, id and log-probability of each token");
    AddCommonOptions(kDataServer, "YOIOCLI_SERVER");
    AddCredentialOptions();
    AddTimeoutOption();
  }

  int Run() override {
    std::string what_to_do;
    const absl::StatusOr<Prompt> prompt = prompt_.Read(what_to_do);
    if (!prompt.ok()) {
      PrintError(prompt.status().message(), what_to_do);
      return kUsage;
    }
    v1::ScoreRequest request;
    SetPrompt(*prompt, request);
    if (model_) request.set_model(*model_);
    if (request_id_) request.set_request_id(*request_id_);
    if (top_logprobs_) request.set_top_logprobs(*top_logprobs_);
    return Send(request);
  }

 private:
  int Send(const v1::ScoreRequest& request) {
    Cancellation cancellation;
    const InterruptCancels interrupt(cancellation);
    CallOptions options = Options();
    options.cancellation = &cancellation;

    const std::optional<ChannelOptions> channel = Channel();
    if (!channel) return kUsage;
    Client client(*channel);
    const auto on_event = [this](const v1::ScoreResponse& event) {
      if (json_) PrintJson(event);
      if (event.has_scores()) Add(event.scores());
      return true;
    };
    const absl::Status status = client.Score(request, on_event, options);
    if (!status.ok()) return ReportFailedCall(status, server_);
    if (!json_) PrintTotals();
    return kDone;
  }

  void Add(const v1::PromptScores& scores) {
    std::string lines;
    int64_t position = scores.first_position();
    for (const v1::TokenRecord& token : scores.tokens()) {
      sum_ += token.logprob();
      ++count_;
      if (tokens_) absl::StrAppendFormat(&lines, "%7d %7d %10.5f\n", position, token.id(), token.logprob());
      ++position;
    }
    if (!json_) PrintNow(lines);
  }

  void PrintTotals() const {
    const double mean = count_ > 0 ? -sum_ / static_cast<double>(count_) : 0;
    PrintNow(Columns({
        {"tokens scored", Grouped(count_), ""},
        {"sum of log-probabilities", absl::StrFormat("%.4f", sum_), ""},
        {"mean loss", absl::StrFormat("%.6f", mean), "nats per token"},
        {"perplexity", absl::StrFormat("%.4f", std::exp(mean)), ""},
    }));
  }

  PromptOptions prompt_;
  std::optional<std::string> model_, request_id_;
  std::optional<int32_t> top_logprobs_;
  bool tokens_ = false;
  double sum_ = 0;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<Command> MakeScoreCommand(CLI::App& program) {
  return std::make_unique<ScoreCommand>(
      *program.add_subcommand("score", "Tell how likely each token of a text is"));
}

}  // namespace yoio
