// `yoio bench`: puts load on a server and measures how it answers.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/channel.h"
#include "client/commands/bench_options.h"
#include "client/commands/command.h"
#include "client/commands/interrupt.h"
#include "client/commands/report.h"
#include "client/load/load_report.h"
#include "client/load/plot.h"
#include "client/load/runner.h"
#include "client/load/saturation.h"

namespace yoio {
namespace {

constexpr char kFooter[] = R"(Lengths, in tokens (K is 1024):
  512                 always this many
  128:1024            uniform
  lognormal:MEDIAN:SIGMA, exponential:MEAN   cut to what the model takes
  2K:0.5,8K:0.3,128K:0.2   one of these, by weight; latencies are shown for
                      each length apart
Prompts are random token ids drawn from the seed; end-of-sequence tokens do not
end outputs, so that lengths are exact.

A trace has one request a line, sorted by time, as JSON
  {"time": 0.25, "prompt_tokens": 2048, "output_tokens": 64, "prefix": 7}
or as values with commas in this order. `prefix` and, after it, `prefix_tokens`
may be left out: requests with the same prefix begin with the same tokens, half
the prompt by default. With --rate or --concurrency its times are not used.

What is measured, for requests that were due after the warm-up:
  time to first token, end to end: from when the request was due, which in an
    open loop is when its schedule said, even if it was sent later
  inter-token latency: between two messages with tokens; a message may carry
    several tokens that waited ("tokens each" tells), and counts as one
  time per output token: first to last token by tokens less one, for each
    request
Slow readers have a connection of their own that takes only 1 KiB of a call
ahead, so that the server feels them. Requests with an injection are in none of
these; throughput counts all that arrives inside the window. Percentiles are
exact to 0.4 %, mean and maximum fully.

A request that the server refuses before any work (RESOURCE_EXHAUSTED, or
DEADLINE_EXCEEDED with INFEASIBLE) counts as rejected; it is among the failed
ones, and the time to its refusal is shown apart.

Exit code 1: some requests failed that were neither injected, nor rejected, nor
past their --deadline.

Examples:
  yoio bench --concurrency 64 --duration 60 --prompt-tokens 2K --output-tokens 256
  yoio bench --rate 20 --poisson --prompt-tokens 2K:0.5,8K:0.3,128K:0.2
  yoio bench --sweep 1:20:10 --warm-up 5 --target-ttft 0.5 --plot sweep.svg)";

// What the server may send to a slow reader ahead: the messages of about 50 tokens.
constexpr int kSlowReadAheadBytes = 1024;

// Shows how a run goes on: one line of standard error that renews itself, on a terminal only.
class ProgressDisplay {
 public:
  ~ProgressDisplay() {
    if (shown_) std::fputs("\r\033[K", stderr);
  }
  void Show(Duration elapsed, const Measurements::Progress& progress, int64_t live) {
    if (!terminal_) return;
    const double seconds = ToSeconds(elapsed - elapsed_);
    const double rate = seconds > 0 ? static_cast<double>(progress.tokens - tokens_) / seconds : 0;
    std::fprintf(stderr, "\r%s\033[K", ProgressLine(elapsed, progress, live, rate).c_str());
    shown_ = true;
    elapsed_ = elapsed;
    tokens_ = progress.tokens;
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO);
  bool shown_ = false;
  Duration elapsed_{};
  int64_t tokens_ = 0;
};

class BenchCommand : public Command {
 public:
  explicit BenchCommand(CLI::App& app) : Command(app) {
    options_.AddTo(app);
    AddCommonOptions(kDataServer, "YOIOCLI_SERVER");
    AddCredentialOptions();
    app.get_option("--json")->description("Print results as JSON, one run a line");
    app.footer(kFooter);
  }

  int Run() override {
    absl::StatusOr<LoadOptions> load = options_.Load();
    const absl::StatusOr<std::vector<double>> rates = options_.SweepRates();
    if (!load.ok()) return WrongUsage(load.status());
    if (!rates.ok()) return WrongUsage(rates.status());
    const InterruptCancels interrupt(cancellation_);
    const std::optional<ChannelOptions> channel = Channel();
    if (!channel) return kUsage;
    Client client(*channel);
    CallOptions call;
    call.timeout = std::chrono::seconds(10);
    call.cancellation = &cancellation_;
    v1::GetModelInfoRequest which;
    if (load->request.has_model()) which.set_model(load->request.model());
    const absl::StatusOr<v1::GetModelInfoResponse> model = client.GetModelInfo(which, call);
    if (!model.ok()) return ReportFailedCall(model.status(), server_);
    const absl::StatusOr<WorkloadOptions> options = options_.Workload(*model);
    if (!options.ok()) return WrongUsage(options.status());
    const absl::StatusOr<v1::GetServerInfoResponse> server = client.GetServerInfo(call);
    if (server.ok()) load->max_concurrent_streams = server->limits().max_concurrent_streams();
    const bool slow_readers = options->injections[static_cast<int>(Injection::kSlowReader)] > 0;
    if (!Connect(*channel, slow_readers)) return kUnavailable;
    if (options_.saturation()) return FindSaturationOf(*options, *load);
    if (!rates->empty()) return Sweep(*options, *load, *rates);
    const LoadResult result = RunOnce(*options, *load);
    PrintNow(json_ ? ResultJson(result) : ResultTable(result));
    return ExitCodeOf(result);
  }

 private:
  int WrongUsage(const absl::Status& status) {
    PrintError(status.message(), "Run `yoio bench --help` for what it takes.");
    return kUsage;
  }

  // Opens every connection, so that no request pays for it. Nothing is retried: every failure counts.
  bool Connect(ChannelOptions channel, bool slow_readers) {
    channel.own_connection = true;
    channel.retries = false;
    for (int i = 0; i < options_.connections(); ++i) channels_.in_turn.push_back(OpenChannel(channel));
    std::vector<std::shared_ptr<grpc::Channel>> all = channels_.in_turn;
    if (slow_readers) {
      channel.read_ahead_bytes = kSlowReadAheadBytes;
      channels_.slow_readers = OpenChannel(channel);
      all.push_back(channels_.slow_readers);
    }
    for (const auto& opened : all) opened->GetState(/*try_to_connect=*/true);
    const auto deadline = std::chrono::system_clock::now() + std::chrono::seconds(10);
    for (const auto& opened : all) {
      if (opened->WaitForConnected(deadline)) continue;
      PrintError(absl::StrCat("no connection to ", server_, " within 10 s"),
                 "Try fewer --connections, or another server.");
      return false;
    }
    return true;
  }

  LoadResult RunOnce(const WorkloadOptions& options, const LoadOptions& load) {
    const Workload workload(options);
    ProgressDisplay display;
    Runner runner(channels_, workload, load);
    return runner.Run(cancellation_, [&display](Duration elapsed, const auto& progress, int64_t live) {
      display.Show(elapsed, progress, live);
    });
  }

  // An open-loop run at `rate`, shown as one line. Moves `options` on to another seed: prompts that a run
  // before it has sent would be found in the server's prefix cache.
  LoadResult RunAt(double rate, WorkloadOptions& options, LoadOptions load) {
    load.concurrency = 0;
    load.rate = RateOptions{rate, rate, {}, options_.poisson()};
    const LoadResult result = RunOnce(options, load);
    ++options.seed;
    PrintNow(json_ ? ResultJson(result) : SweepRow(result));
    for (const std::string& warning : result.warnings) {
      if (!json_) PrintNow(absl::StrCat("  warning: ", warning, "\n"));
    }
    return result;
  }

  int Sweep(WorkloadOptions options, const LoadOptions& load, const std::vector<double>& rates) {
    if (!json_) PrintNow(SweepHeader());
    std::vector<LoadResult> results;
    int exit_code = kDone;
    for (const double rate : rates) {
      if (cancellation_.cancelled()) break;
      results.push_back(RunAt(rate, options, load));
      exit_code = std::max(exit_code, ExitCodeOf(results.back()));
    }
    if (!options_.plot().empty() && !(std::ofstream(options_.plot()) << SweepPlot(results)).flush()) {
      PrintError(absl::StrCat("cannot write ", options_.plot()), "Name a file that can be written.");
      return kUsage;
    }
    return exit_code;
  }

  int FindSaturationOf(WorkloadOptions options, LoadOptions load) {
    constexpr int kConcurrency = 64;
    if (load.concurrency == 0) load.concurrency = kConcurrency;
    if (!load.drain) load.drain = Duration::zero();
    const LoadResult closed = RunOnce(options, load);
    ++options.seed;
    if (!json_) PrintNow(SweepHeader());
    PrintNow(json_ ? ResultJson(closed) : SweepRow(closed));
    const double found = FindSaturation(closed.completed_per_second, [&](double rate) {
      return cancellation_.cancelled() ? LoadResult() : RunAt(rate, options, load);
    });
    if (cancellation_.cancelled()) return kInterrupted;
    PrintNow(json_ ? absl::StrFormat("{\"saturation_rate\": %.4g}\n", found)
                   : absl::StrFormat("saturation: %.4g requests/s\n", found));
    return found > 0 ? kDone : kFailed;
  }

  int ExitCodeOf(const LoadResult& result) const {
    if (cancellation_.cancelled()) return kInterrupted;
    const int64_t meant = result.rejected + (options_.has_deadline() ? result.expired : 0);
    return result.failed > meant ? kFailed : kDone;
  }

  BenchOptions options_;
  Cancellation cancellation_;
  LoadChannels channels_;
};

}  // namespace

std::unique_ptr<Command> MakeBenchCommand(CLI::App& program) {
  return std::make_unique<BenchCommand>(
      *program.add_subcommand("bench", "Put load on a server and measure how it answers"));
}

}  // namespace yoio
