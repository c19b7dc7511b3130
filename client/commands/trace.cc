// `yoio trace`: where the time of requests went, and what every rank did meanwhile.
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/commands/command.h"
#include "client/commands/report.h"
#include "client/commands/request_picture.h"
#include "client/commands/seconds.h"
#include "client/commands/step_picture.h"
#include "client/commands/terminal.h"
#include "client/commands/timeline.h"
#include "client/commands/traces.h"

namespace yoio {
namespace {

constexpr char kFooter[] = R"(Examples:
  yoio trace --slowest 10
  yoio trace --since 5m --sort gap
  yoio trace 8a37f4adcb37d93d --steps
  yoio trace --timeline profile.json.gz --duration 2s)";

std::string CheckTime(const std::string& text) {
  return ParseSeconds(text) ? "" : absl::StrCat("expected a time as 5m, 90s or 250ms, got ", text);
}

// By falling `key`.
template <typename Key>
void SortBy(Key key, std::vector<v1::RequestTrace>& traces) {
  std::stable_sort(traces.begin(), traces.end(),
                   [key](const auto& a, const auto& b) { return Seconds(key(a)) > Seconds(key(b)); });
}

// As the server gives them for an empty `order`.
void Sort(const std::string& order, std::vector<v1::RequestTrace>& traces) {
  if (order == "total") SortBy([](const auto& trace) { return trace.timing().total(); }, traces);
  if (order == "gap") SortBy([](const auto& trace) { return trace.timing().longest_gap(); }, traces);
  if (order == "first-token") {
    SortBy([](const auto& trace) { return trace.timing().time_to_first_token(); }, traces);
  }
}

std::string CheckOrder(const std::string& text) {
  for (const char* order : {"total", "gap", "first-token"}) {
    if (text == order) return "";
  }
  return absl::StrCat("expected total, gap or first-token, got ", text);
}

class TraceCommand : public Command {
 public:
  explicit TraceCommand(CLI::App& app) : Command(app) {
    CLI::Option* id = app.add_option("id", request_id_, "The request of this id")->type_name("ID");
    CLI::Option* slowest = AddCountOption("--slowest", slowest_, "This many, the longest first", kSelection);
    CLI::Option* since = AddTimeOption("--since", since_, "Those that ended within this", kSelection);
    CLI::Option* timeline = app.add_option("--timeline", timeline_,
                                           "Instead write what every rank does from now on to this file: a "
                                           "picture if it ends in .svg, else a "
                                           "gzip-compressed Chrome trace")
                                ->type_name("FILE")
                                ->group(kTimeline);
    AddTimeOption("--duration", duration_, "How long; else 5s", kTimeline)->needs(timeline);
    AddCountOption("--max-steps", max_steps_, "End it after so many steps", kTimeline)->needs(timeline);
    app.add_option("--sort", sort_, "The longest first, by total, gap or first-token; else the latest first")
        ->type_name("WHAT")
        ->check(CLI::Validator(CheckOrder, ""));
    app.add_flag("--steps", steps_, "Draw the slowest steps of each request too");
    app.add_flag("--ascii", ascii_, "Draw with ASCII; else the locale tells");
    id->excludes(slowest)->excludes(since)->excludes(timeline);
    slowest->excludes(since)->excludes(timeline);
    since->excludes(timeline);
    AddCommonOptions(kAdminServer, "YOIOCLI_ADMIN_SERVER");
    AddAdminCredentialOptions();
    AddTimeoutOption();
    app.footer(kFooter);
  }

  int Run() override {
    const std::optional<ChannelOptions> channel = Channel();
    if (!channel) return kUsage;
    AdminClient client(*channel);
    if (!timeline_.empty()) return WriteTimeline(client);
    return json_ ? PrintTraces(client) : DrawTraces(client);
  }

 private:
  static constexpr char kSelection[] = "Which requests (else those of the last 5 minutes)";
  static constexpr char kTimeline[] = "Timeline";

  CLI::Option* AddTimeOption(const char* name, std::string& value, const char* help, const char* group) {
    CLI::Validator check(CheckTime, "");
    return app_.add_option(name, value, help)->type_name("TIME")->check(check)->group(group);
  }

  CLI::Option* AddCountOption(const char* name, std::optional<int32_t>& value, const char* help,
                              const char* group) {
    CLI::Validator positive = CLI::PositiveNumber;
    positive.description("");
    return app_.add_option(name, value, help)->type_name("COUNT")->check(positive)->group(group);
  }

  v1::GetTracesRequest Selection() const {
    v1::GetTracesRequest request;
    if (!request_id_.empty()) request.set_request_id(request_id_);
    if (slowest_) request.set_slowest(*slowest_);
    if (!since_.empty()) *request.mutable_since() = ToProto(*ParseSeconds(since_));
    // A single request has them anyway: they tell where its longest gap was.
    if (steps_ || !request_id_.empty()) request.set_steps(true);
    return request;
  }

  int PrintTraces(AdminClient& client) const {
    v1::GetTracesRequest request = Selection();
    if (!steps_) request.clear_steps();
    const auto on_trace = [](const v1::GetTracesResponse& response) {
      PrintJson(response);
      return true;
    };
    const absl::Status status = client.GetTraces(request, on_trace, Options());
    return status.ok() ? kDone : Report(status);
  }

  int DrawTraces(AdminClient& client) const {
    auto traces = FetchTraces(client, Selection(), Options());
    if (!traces.ok()) return Report(traces.status());
    Sort(sort_, *traces);
    if (traces->empty()) return ReportNone();
    const Terminal terminal = TerminalOf(STDOUT_FILENO, ascii_);
    if (request_id_.empty()) PrintNow(RequestTable(*traces, terminal));
    for (const v1::RequestTrace& trace : *traces) {
      if (request_id_.empty() && !steps_) continue;
      if (&trace != &traces->front() || request_id_.empty()) PrintNow("\n");
      PrintNow(RequestPicture(trace, terminal));
      if (!steps_) continue;
      const std::string steps = SlowestSteps(trace, kSlowestSteps, terminal);
      PrintNow(steps.empty() ? "\nno steps of it are remembered\n" : absl::StrCat("\n", steps));
    }
    return kDone;
  }

  int ReportNone() const {
    if (request_id_.empty()) {
      PrintNow("no requests\n");
      return kDone;
    }
    PrintError(absl::StrCat("the server remembers no request ", request_id_),
               "Take an id that `yoio trace --since 1h` shows; the last 4,096 requests are remembered.");
    return kFailed;
  }

  int WriteTimeline(AdminClient& client) const {
    v1::ProfileRequest request;
    if (!duration_.empty()) *request.mutable_duration() = ToProto(*ParseSeconds(duration_));
    if (max_steps_) request.set_steps(*max_steps_);
    const absl::StatusOr<std::string> profile = client.Profile(request, Options());
    if (!profile.ok()) return Report(profile.status());
    const bool draw = absl::EndsWith(timeline_, ".svg");
    const absl::StatusOr<std::string> content = draw ? TimelineSvg(*profile) : profile;
    if (!content.ok()) {
      PrintError(absl::StrCat("the profile cannot be drawn: ", content.status().message()),
                 "Name a file that does not end in .svg, which gets it as it came.");
      return kFailed;
    }
    if (!(std::ofstream(timeline_, std::ios::binary) << *content).flush()) {
      PrintError(absl::StrCat(timeline_, " cannot be written"), "Name another file by --timeline.");
      return kUsage;
    }
    PrintNow(absl::StrCat("wrote ", timeline_, ": open it ",
                          draw ? "with a browser" : "at https://ui.perfetto.dev or chrome://tracing", "\n"));
    return kDone;
  }

  int Report(const absl::Status& status) const {
    if (absl::IsNotFound(status) && !request_id_.empty()) return ReportNone();
    return ReportFailedCall(status, server_, kAdminListener);
  }

  std::string request_id_, since_, sort_, timeline_, duration_;
  std::optional<int32_t> slowest_, max_steps_;
  bool steps_ = false, ascii_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeTraceCommand(CLI::App& program) {
  return std::make_unique<TraceCommand>(
      *program.add_subcommand("trace", "Show where the time of requests went, by step and by rank"));
}

}  // namespace yoio
