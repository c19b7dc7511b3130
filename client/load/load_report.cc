#include "client/load/load_report.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/load/json_writer.h"

namespace yoio {
namespace {

// Three digits in the unit that fits: "6.21s", "341ms", "84us".
std::string Short(double seconds) {
  const bool whole = seconds >= 1, millis = seconds >= 1e-3;
  const double value = whole ? seconds : millis ? seconds * 1e3 : seconds * 1e6;
  const int decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return absl::StrFormat("%.*f%s", decimals, value, whole ? "s" : millis ? "ms" : "us");
}

void AddLatency(std::string& out, const std::string& name, const Percentiles& p) {
  if (p.count == 0) return;
  absl::StrAppendFormat(&out, "  %-22s %10s %10s %10s %10s %10s %12d\n", name, Short(p.p50), Short(p.p90),
                        Short(p.p99), Short(p.p999), Short(p.max), p.count);
}

void AddClass(std::string& out, const ClassResult& row) {
  AddLatency(out, "time to first token", row.ttft);
  AddLatency(out, "inter-token latency", row.itl);
  AddLatency(out, "time per output token", row.tpot);
  AddLatency(out, "end to end", row.e2e);
}

void AddInjection(std::string& out, const char* name, const char* happened, const InjectionCount& count) {
  if (count.sent == 0) return;
  absl::StrAppendFormat(&out, "%-22s %d sent, %d %s, %d completed\n", name, count.sent, count.happened,
                        happened, count.completed);
}

std::string Load(const LoadResult& result) {
  if (result.concurrency > 0) return absl::StrCat("closed loop, ", result.concurrency, " at a time");
  if (result.rate == 0) return "open loop, times of the trace";
  return absl::StrFormat("open loop, %.4g requests/s%s", result.rate, result.poisson ? ", Poisson" : "");
}

void WritePercentiles(JsonWriter& json, const char* name, const Percentiles& p) {
  json.Key(name).BeginObject().Field("count", p.count).Field("mean", p.mean).Field("p50", p.p50);
  json.Field("p90", p.p90).Field("p99", p.p99).Field("p999", p.p999).Field("max", p.max).EndObject();
}

void WriteClass(JsonWriter& json, const ClassResult& row) {
  json.BeginObject().Field("name", row.name).Field("sent", row.sent).Field("completed", row.completed);
  WritePercentiles(json, "ttft", row.ttft);
  WritePercentiles(json, "itl", row.itl);
  WritePercentiles(json, "tpot", row.tpot);
  WritePercentiles(json, "e2e", row.e2e);
  json.EndObject();
}

void WriteInjection(JsonWriter& json, const char* name, const InjectionCount& count) {
  json.Key(name).BeginObject().Field("sent", count.sent).Field("happened", count.happened);
  json.Field("completed", count.completed).EndObject();
}

}  // namespace

std::string ResultTable(const LoadResult& result) {
  std::string out;
  absl::StrAppendFormat(&out, "%-22s %s; %d connections, seed %d\n", "load", Load(result), result.connections,
                        result.seed);
  absl::StrAppendFormat(&out, "%-22s %.1f s; at most %d requests at a time\n", "measured", result.seconds,
                        result.peak_live);
  absl::StrAppendFormat(
      &out, "%-22s %d sent, %d completed, %d failed (%d rejected, %d expired), %d cut off\n", "requests",
      result.sent, result.completed, result.failed, result.rejected, result.expired, result.cut_off);
  AddInjection(out, "cancelled on purpose", "cancelled", result.cancels);
  AddInjection(out, "short deadlines", "expired", result.expiries);
  AddInjection(out, "slow readers", "ended by the server", result.slow_readers);
  for (const ErrorCount& error : result.errors) {
    absl::StrAppendFormat(&out, "%-22s %d x %s %s: %s\n", "failed", error.count, error.code, error.reason,
                          error.message);
  }
  absl::StrAppendFormat(&out, "%-22s %.4g requests/s, %.5g prompt tokens/s, %.5g output tokens/s\n",
                        "throughput", result.completed_per_second, result.prompt_tokens_per_second,
                        result.output_tokens_per_second);
  absl::StrAppendFormat(&out, "%-22s %.4g requests/s met every target\n", "goodput", result.good_per_second);
  absl::StrAppendFormat(&out, "%-22s %.5g/s, %.4g tokens each\n", "messages", result.messages_per_second,
                        result.tokens_per_message);
  absl::StrAppendFormat(&out, "%-22s %.3g cores, %.3g us a message; sent late p99 %s, max %s\n", "generator",
                        result.cpu_cores, result.cpu_micros_per_message, Short(result.lateness.p99),
                        Short(result.lateness.max));
  absl::StrAppendFormat(&out, "  %-22s %10s %10s %10s %10s %10s %12s\n", "latency", "p50", "p90", "p99",
                        "p99.9", "max", "count");
  AddClass(out, result.all);
  AddLatency(out, "time to rejection", result.rejected_latency);
  if (result.classes.size() > 1) {
    for (const ClassResult& row : result.classes) {
      absl::StrAppendFormat(&out, "%s: %d sent, %d completed\n", row.name, row.sent, row.completed);
      AddClass(out, row);
    }
  }
  for (const std::string& warning : result.warnings) absl::StrAppend(&out, "warning: ", warning, "\n");
  return out;
}

std::string ResultJson(const LoadResult& result) {
  JsonWriter json;
  json.BeginObject().Field("rate", result.rate).Field("poisson", result.poisson);
  json.Field("concurrency", result.concurrency).Field("connections", result.connections);
  json.Field("seed", absl::StrCat(result.seed)).Field("seconds", result.seconds);
  json.Field("sent", result.sent).Field("completed", result.completed).Field("failed", result.failed);
  json.Field("rejected", result.rejected)
      .Field("expired", result.expired)
      .Field("cut_off", result.cut_off)
      .Field("good", result.good);
  json.Field("wrong_length", result.wrong_length).Field("peak_live", result.peak_live);
  json.Field("completed_per_second", result.completed_per_second);
  json.Field("prompt_tokens_per_second", result.prompt_tokens_per_second);
  json.Field("output_tokens_per_second", result.output_tokens_per_second);
  json.Field("messages_per_second", result.messages_per_second);
  json.Field("tokens_per_message", result.tokens_per_message);
  json.Field("good_per_second", result.good_per_second);
  json.Key("all");
  WriteClass(json, result.all);
  json.Key("classes").BeginArray();
  if (result.classes.size() > 1) {
    for (const ClassResult& row : result.classes) WriteClass(json, row);
  }
  json.EndArray();
  WritePercentiles(json, "rejected_latency", result.rejected_latency);
  json.Key("errors").BeginArray();
  for (const ErrorCount& error : result.errors) {
    json.BeginObject().Field("code", error.code).Field("reason", error.reason);
    json.Field("message", error.message).Field("count", error.count).EndObject();
  }
  json.EndArray().Key("injected").BeginObject();
  WriteInjection(json, "cancels", result.cancels);
  WriteInjection(json, "expiries", result.expiries);
  WriteInjection(json, "slow_readers", result.slow_readers);
  json.EndObject().Key("generator").BeginObject();
  WritePercentiles(json, "lateness", result.lateness);
  json.Field("cpu_cores", result.cpu_cores);
  json.Field("cpu_micros_per_message", result.cpu_micros_per_message).EndObject();
  json.Key("warnings").BeginArray();
  for (const std::string& warning : result.warnings) json.Value(warning);
  json.EndArray().EndObject();
  return absl::StrCat(json.text(), "\n");
}

std::string SweepHeader() {
  return absl::StrFormat("%9s %10s %10s %11s %8s %9s %9s %9s %9s %9s\n", "offered/s", "done/s", "good/s",
                         "tokens/s", "failed", "ttft p50", "ttft p99", "itl p50", "itl p99", "e2e p99");
}

std::string SweepRow(const LoadResult& r) {
  return absl::StrFormat("%9.4g %10.4g %10.4g %11.5g %8d %9s %9s %9s %9s %9s\n", r.rate,
                         r.completed_per_second, r.good_per_second, r.output_tokens_per_second, r.failed,
                         Short(r.all.ttft.p50), Short(r.all.ttft.p99), Short(r.all.itl.p50),
                         Short(r.all.itl.p99), Short(r.all.e2e.p99));
}

std::string ProgressLine(Duration elapsed, const Measurements::Progress& progress, int64_t live,
                         double tokens_per_second) {
  return absl::StrFormat(
      "%.0f s: %d sent, %d running, %d ended, %d failed, %.0f tokens/s, ttft %s / %s, itl %s / %s",
      ToSeconds(elapsed), progress.sent, live, progress.ended, progress.failed, tokens_per_second,
      Short(progress.ttft_p50), Short(progress.ttft_p99), Short(progress.itl_p50), Short(progress.itl_p99));
}

}  // namespace yoio
