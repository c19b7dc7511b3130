// `yoio tokenize`: text to token ids.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands/command.h"
#include "client/commands/prompt.h"
#include "client/commands/report.h"

namespace yoio {
namespace {

class TokenizeCommand : public Command {
 public:
  explicit TokenizeCommand(CLI::App& app) : Command(app) {
    prompt_.AddTo(app, /*with_ids=*/false);
    app.add_option("--model", model_, "The model; else the one that is served")->type_name("NAME");
    app.add_flag("--count", count_only_, "Print the number of tokens alone");
    AddCommonOptions(kDataServer, "YOIOCLI_SERVER");
    AddCredentialOptions();
    AddTimeoutOption();
  }

  int Run() override {
    std::string what_to_do;
    const absl::StatusOr<Prompt> text = prompt_.Read(what_to_do);
    if (!text.ok()) {
      PrintError(text.status().message(), what_to_do);
      return kUsage;
    }
    v1::TokenizeRequest request;
    request.set_text(std::get<std::string>(*text));
    if (model_) request.set_model(*model_);
    if (count_only_) request.set_count_only(true);

    const std::optional<ChannelOptions> channel = Channel();
    if (!channel) return kUsage;
    const absl::StatusOr<v1::TokenizeResponse> response = Client(*channel).Tokenize(request, Options());
    if (!response.ok()) return ReportFailedCall(response.status(), server_);
    if (json_) {
      PrintJson(*response);
    } else if (count_only_) {
      PrintNow(absl::StrCat(response->count(), "\n"));
    } else {
      PrintNow(absl::StrCat(absl::StrJoin(response->ids(), " "), "\n"));
    }
    return kDone;
  }

 private:
  PromptOptions prompt_;
  std::optional<std::string> model_;
  bool count_only_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeTokenizeCommand(CLI::App& program) {
  return std::make_unique<TokenizeCommand>(*program.add_subcommand("tokenize", "Turn text into token ids"));
}

}  // namespace yoio
