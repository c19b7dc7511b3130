// What the server costs a token, beside what gRPC alone can do.
//
//   server_bench [--streams N] [--messages N] [--merged-tokens N] [--rounds N] [--model DIR]
//                [--only TEXT] [--json FILE]
//
// A client reads N streams to their ends with gRPC's callback API, over loopback TCP in this process: all
// numbers have the client in them. Four servers take turns, in each round of the run:
//   bare    a gRPC reactor that does nothing but write one message of one token again and again
//   server  the server's own reactors, conversion and outbox; its engine (bench/instant_engine.h) has every
//           token at once
//   text    the server, and each token is detokenised on a text pool first, as with the real engine
//   traced  the server with metrics and traces of every request, and no collector that answers
// Names carry the number of streams, and `tls` where there is TLS. Medians over the rounds of:
//   messages/...   messages a second, one token each: the engine waits until the reader has taken the last
//   tokens/...     tokens a second when what waits for the reader merges
//   merged/...     tokens in a message then
//   cpu/...        processor time of client and server for one message, or (cpu-token) for one token
//   trace-cost/... by what share tracing lowers the rate of messages: the mean of all rounds, each of which
//                  compares the two that it ran one after the other. The end of the 95% interval:
//                  trace-cost-most
//   tls-cost/...   by what share TLS lowers that rate of messages, or (tls-cost-tokens) of tokens
// The floor of `messages` and `cpu` is the bare reactor's, of `tls` ones that of the same without TLS.
#include <grpcpp/impl/service_type.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/host_resources.h"
#include "base/lock_checks.h"
#include "bench/bare_service.h"
#include "bench/certificate.h"
#include "bench/instant_engine.h"
#include "bench/report.h"
#include "bench/stream_load.h"
#include "engine/tokenizer/tokenizer.h"
#include "server/inference_service.h"
#include "server/log.h"
#include "server/metrics/call_metrics.h"
#include "server/trace/telemetry.h"

namespace yoio::bench {
namespace {

struct Options {
  int streams = 64;
  int messages = 5000;        // a stream, one token each
  int merged_tokens = 50000;  // a stream
  int rounds = 5;
  std::string model = "models/yoio-tiny";
  std::string only;
  std::string json;
};

// The token that every stream repeats: a word with the space before it.
struct Word {
  int32_t id;
  std::string text;
};

Word ChooseWord(const Tokenizer& tokenizer) {
  const auto ids = tokenizer.Encode(" the");
  YOIO_CHECK(ids.ok() && ids->size() == 1) << "' the' is not one token of this model";
  return {ids->front(), std::string(tokenizer.TokenBytes(ids->front()))};
}

v1::GenerateResponse MessageOf(const Word& word) {
  v1::GenerateResponse message;
  message.mutable_delta()->set_text(word.text);
  return message;
}

enum class Who { kBare, kServer, kTraced, kText };

struct Case {
  Who who;
  bool one_by_one;
  bool tls;

  std::string Name(const char* what, int streams) const {
    constexpr const char* kNames[] = {"bare", "server", "traced", "text"};
    return absl::StrCat(what, "/", kNames[static_cast<int>(who)], "/", streams, tls ? "/tls" : "");
  }
  bool operator<(const Case& other) const {
    return std::tie(one_by_one, tls, who) < std::tie(other.one_by_one, other.tls, other.who);
  }
};

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), certificate_(MakeCertificate()) {
    auto tokenizer = Tokenizer::FromFile(options.model + "/tokenizer.json");
    YOIO_CHECK(tokenizer.ok()) << tokenizer.status().ToString();
    tokenizer_ = *std::move(tokenizer);
    word_ = ChooseWord(*tokenizer_);
  }

  Cost Measure(const Case& measured) const {
    const int tokens = measured.one_by_one ? options_.messages : options_.merged_tokens;
    if (measured.who == Who::kBare) {
      const auto service = MakeBareService(MessageOf(word_));
      return Read(*service, measured, tokens);
    }
    InstantEngine engine({.streams = options_.streams,
                          .one_by_one = measured.one_by_one,
                          .tokenizer = measured.who == Who::kText ? tokenizer_.get() : nullptr,
                          .token = word_.id,
                          .text = word_.text});
    const Logger log([](LogLevel, std::string_view) {});
    ServingCore core{.engine = engine,
                     .model = {.info = &engine.model(), .names = {"bench"}},
                     .stall_timeout = std::chrono::seconds(60),
                     .log = log};
    CallMetrics metrics;
    if (measured.who == Who::kTraced) core.observers.push_back(&metrics);
    const auto telemetry = measured.who == Who::kTraced ? StartTracing(core, log) : nullptr;
    const auto service = MakeInferenceService(core);
    return Read(*service, measured, tokens);
  }

 private:
  // All that tracing does to calls, but for what a collector would have to do with.
  static std::unique_ptr<Telemetry> StartTracing(ServingCore& core, const Logger& log) {
    Telemetry::Options options;
    options.trace.enabled = true;
    options.slow = std::chrono::seconds(30);
    options.trace.otlp.target = "127.0.0.1:9";  // nobody is there
    auto telemetry = Telemetry::Start(options, log);
    YOIO_CHECK(telemetry.ok()) << telemetry.status().ToString();
    (*telemetry)->Watch(core);
    return *std::move(telemetry);
  }

  Cost Read(grpc::Service& service, const Case& measured, int tokens) const {
    const Loopback loopback(service, measured.tls ? std::optional(certificate_) : std::nullopt);
    const Cost cost = ReadStreams(loopback, options_.streams, tokens);
    const int64_t expected = static_cast<int64_t>(options_.streams) * tokens;
    YOIO_CHECK_EQ(cost.text_bytes, expected * static_cast<int64_t>(word_.text.size())) << "text was lost";
    if (measured.one_by_one) YOIO_CHECK_EQ(cost.messages, expected) << "messages were merged";
    return cost;
  }

  const Options& options_;
  const Certificate certificate_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Word word_;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Over the rounds.
struct Medians {
  double per_second, cpu_us, merged;  // messages, or tokens when they merge
};

Medians MediansOf(const std::vector<Cost>& costs, bool one_by_one, int64_t tokens) {
  std::vector<double> per_second, cpu_us, merged;
  for (const Cost& cost : costs) {
    const double count = one_by_one ? cost.messages : tokens;
    per_second.push_back(count / cost.wall);
    cpu_us.push_back(1e6 * cost.cpu / count);
    merged.push_back(static_cast<double>(tokens) / cost.messages);
  }
  return {Median(per_second), Median(cpu_us), Median(merged)};
}

// How much lower the rate of `traced` is, in percent, round by round.
void AddTraceCost(const Options& options, const std::vector<Cost>& plain, const std::vector<Cost>& traced,
                  Report& report) {
  // Student's t for 95% of both sides, by degrees of freedom; 1.96 when there are many.
  constexpr std::array<double, 10> kStudent = {0,     12.71, 4.303, 3.182, 2.776,
                                               2.571, 2.447, 2.365, 2.306, 2.262};
  const size_t rounds = std::min(plain.size(), traced.size());
  if (rounds < 2) return;
  const auto cost = [&](size_t i) {
    return 100 * (1 - (traced[i].messages / traced[i].wall) / (plain[i].messages / plain[i].wall));
  };
  double mean = 0, variance = 0;
  for (size_t i = 0; i < rounds; ++i) mean += cost(i) / rounds;
  for (size_t i = 0; i < rounds; ++i) variance += (cost(i) - mean) * (cost(i) - mean) / (rounds - 1);
  const double student = rounds - 1 < kStudent.size() ? kStudent[rounds - 1] : 2.262;
  const std::string streams = absl::StrCat("/", options.streams);
  report.Add({"trace-cost" + streams, mean, "%"});
  report.Add({"trace-cost-most" + streams, mean + student * std::sqrt(variance / rounds), "%"});
}

void AddRows(const Options& options, const std::map<Case, std::vector<Cost>>& measured, Report& report) {
  std::map<Case, Medians> medians;
  for (const auto& [key, costs] : measured) {
    const int64_t tokens = options.streams * (key.one_by_one ? options.messages : options.merged_tokens);
    medians[key] = MediansOf(costs, key.one_by_one, tokens);
  }
  const auto rows_of = [&](Who who) {
    const auto found = measured.find({who, true, false});
    return found == measured.end() ? std::vector<Cost>() : found->second;
  };
  AddTraceCost(options, rows_of(Who::kServer), rows_of(Who::kTraced), report);
  for (const auto& [key, result] : medians) {
    // A bare reactor merges nothing: what has TLS is then held against what has none.
    const bool has_floor = key.one_by_one ? key.who != Who::kBare : key.tls;
    const Case floor_key{key.one_by_one ? Who::kBare : key.who, key.one_by_one, key.one_by_one && key.tls};
    const Medians floor = has_floor && medians.contains(floor_key) ? medians.at(floor_key) : Medians{};
    const auto name = [&](const char* what) { return key.Name(what, options.streams); };
    if (key.one_by_one) {
      report.Add({name("messages"), result.per_second, "messages/s", floor.per_second});
      report.Add({name("cpu"), result.cpu_us, "us", floor.cpu_us});
    } else {
      report.Add({name("tokens"), result.per_second, "tokens/s", floor.per_second});
      report.Add({name("cpu-token"), result.cpu_us, "us", floor.cpu_us});
      report.Add({name("merged"), result.merged, "x"});
    }
    const Case plain{key.who, key.one_by_one, false};
    if (!key.tls || !medians.contains(plain)) continue;
    const double cost = 100 * (1 - result.per_second / medians.at(plain).per_second);
    report.Add({plain.Name(key.one_by_one ? "tls-cost" : "tls-cost-tokens", options.streams), cost, "%"});
  }
}

int Main(int argc, char** argv) {
  SkipLockChecks();  // as in the server
  Options options;
  CLI::App app("What the server costs a token, beside what gRPC alone can do.");
  app.add_option("--streams", options.streams, "At the same time, over one connection");
  app.add_option("--messages", options.messages, "Of a stream, one token each");
  app.add_option("--merged-tokens", options.merged_tokens, "Of a stream whose tokens may merge");
  app.add_option("--rounds", options.rounds, "Every case once in each");
  app.add_option("--model", options.model, "Whose tokenizer is used");
  app.add_option("--only", options.only, "Only what has this in its name, messages/... or tokens/...");
  app.add_option("--json", options.json, "Write the results to this file");
  CLI11_PARSE(app, argc, argv);

  const Bench bench(options);
  Report report(ProcessorName(AvailableThreads()), argc, argv);
  std::map<Case, std::vector<Cost>> measured;
  const auto wanted = [&options](const Case& each, const char* what) {
    return each.Name(what, options.streams).find(options.only) != std::string::npos;
  };
  for (int round = 0; round < options.rounds; ++round) {
    for (const bool tls : {false, true}) {
      // What is compared in pairs changes places from round to round.
      const bool swapped = round % 2 == 1;
      for (const Who who : {Who::kBare, swapped ? Who::kTraced : Who::kServer,
                            swapped ? Who::kServer : Who::kTraced, Who::kText}) {
        const Case one_by_one{who, true, tls}, merged{who, false, tls};
        if (wanted(one_by_one, "messages")) measured[one_by_one].push_back(bench.Measure(one_by_one));
        if (who != Who::kBare && wanted(merged, "tokens")) measured[merged].push_back(bench.Measure(merged));
      }
    }
  }
  AddRows(options, measured, report);
  return report.Write(options.json) ? 0 : 1;
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) { return yoio::bench::Main(argc, argv); }
