#include "client/commands/request_picture.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands/bars.h"
#include "client/commands/report.h"
#include "client/commands/seconds.h"
#include "client/commands/table.h"

namespace yoio {
namespace {

// A part of a request's time, in the order of time.
struct Phase {
  const char* name;
  bool measured;
  double seconds;
  Color color;
  const char *glyph, *ascii_glyph;  // in bars of several phases
};

std::vector<Phase> PhasesOf(const v1::Timing& timing) {
  return {
      {"tokenize", timing.has_tokenize(), Seconds(timing.tokenize()), Color::kCyan, "▀", "t"},
      {"queue", timing.has_queue(), Seconds(timing.queue()), Color::kYellow, "░", "."},
      {"prefill", timing.has_prefill(), Seconds(timing.prefill()), Color::kBlue, "▓", "="},
      {"decode", timing.has_decode(), Seconds(timing.decode()), Color::kGreen, "█", "#"},
      {"deliver", timing.has_deliver(), Seconds(timing.deliver()), Color::kMagenta, "▄", "d"},
  };
}

double TotalOf(const v1::Timing& timing) {
  double sum = 0;
  for (const Phase& phase : PhasesOf(timing)) sum += phase.seconds;
  return timing.has_total() ? Seconds(timing.total()) : sum;
}

// A line of the picture: a bar between two times since arrival.
struct BarLine {
  std::string name;
  double seconds;
  double begin, end;
  Color color;
  bool shaded = false;
};

// The causes of waits, one after another from `begin` on.
void AddCauses(const std::vector<std::pair<const char*, google::protobuf::Duration>>& causes, double begin,
               std::vector<BarLine>& lines) {
  for (const auto& [name, duration] : causes) {
    const double seconds = Seconds(duration);
    if (seconds <= 0) continue;
    lines.push_back({absl::StrCat("  ", name), seconds, begin, begin + seconds, Color::kYellow, true});
    begin += seconds;
  }
}

void AddWaits(absl::string_view phase, const v1::Timing& timing, double begin, std::vector<BarLine>& lines) {
  const v1::WaitCauses& waited = timing.waited();
  if (phase == "tokenize") AddCauses({{"for a tokenizer", waited.tokenizer()}}, begin, lines);
  if (phase == "queue") {
    AddCauses({{"for slots", waited.slots()},
               {"for blocks", waited.blocks()},
               {"for step tokens", waited.token_budget()},
               {"for tenant share", waited.tenant_share()}},
              begin, lines);
  }
  if (phase == "decode") AddCauses({{"for the client", timing.blocked_on_client()}}, begin, lines);
}

// The longest gap, placed by the step that ended it.
void AddGap(const v1::RequestTrace& trace, std::vector<BarLine>& lines) {
  const v1::Timing& timing = trace.timing();
  if (!timing.has_longest_gap() || !timing.has_longest_gap_step()) return;
  for (const v1::StepTrace& step : trace.steps()) {
    if (step.step() != timing.longest_gap_step()) continue;
    const double end = SecondsBetween(trace.arrival(), step.start()) + Seconds(step.duration());
    const double gap = Seconds(timing.longest_gap());
    lines.push_back({"longest gap", gap, std::max(end - gap, 0.0), end, Color::kRed});
  }
}

std::vector<BarLine> LinesOf(const v1::RequestTrace& trace) {
  std::vector<BarLine> lines;
  double begin = 0;
  for (const Phase& phase : PhasesOf(trace.timing())) {
    if (!phase.measured) continue;
    lines.push_back({phase.name, phase.seconds, begin, begin + phase.seconds, phase.color});
    AddWaits(phase.name, trace.timing(), begin, lines);
    begin += phase.seconds;
  }
  AddGap(trace, lines);
  return lines;
}

std::string Bars(const v1::RequestTrace& trace, const Terminal& terminal) {
  const std::vector<BarLine> lines = LinesOf(trace);
  const double total = TotalOf(trace.timing());
  if (lines.empty() || total <= 0) return "";
  size_t name_width = 0;
  for (const BarLine& line : lines) name_width = std::max(name_width, line.name.size());
  const std::string margin(name_width + 12, ' ');
  const TimeScale scale(total, terminal.width - static_cast<int>(margin.size()) - 1, terminal);

  std::string out = absl::StrCat(margin, scale.Labels(), "\n", margin, scale.Ruler(), "\n");
  const auto label = [&](const std::string& name, double seconds) {
    return absl::StrFormat("%-*s  %8s", name_width, name, Readable(seconds));
  };
  for (const BarLine& line : lines) {
    const std::string bar = line.shaded ? scale.Shade(line.begin, line.end, line.color)
                                        : scale.Bar(line.begin, line.end, line.color);
    absl::StrAppend(&out, label(line.name, line.seconds), "  ", bar, "\n");
  }
  absl::StrAppend(&out, label("total", total), "\n");
  return out;
}

std::string Joined(const std::vector<std::string>& parts) {
  std::vector<std::string> there;
  for (const std::string& part : parts) {
    if (!part.empty()) there.push_back(part);
  }
  return absl::StrJoin(there, ", ");
}

// "1 step", "2 steps"; nothing for 0.
std::string Count(int64_t count, const char* one, const char* many) {
  return count == 0 ? "" : absl::StrCat(Grouped(count), " ", count == 1 ? one : many);
}

std::string Rate(double tokens, const google::protobuf::Duration& duration) {
  const double seconds = Seconds(duration);
  if (tokens <= 0 || seconds <= 0) return "";
  return absl::StrCat(Grouped(std::llround(tokens / seconds)), " tokens/s");
}

std::vector<Row> Facts(const v1::RequestTrace& trace) {
  const v1::Timing& timing = trace.timing();
  const v1::Usage& usage = trace.usage();
  const auto named = [](const char* name, const std::string& value) {
    return value.empty() ? "" : absl::StrCat(name, " ", value);
  };
  return {
      {"queue",
       timing.has_queue_length_on_arrival()
           ? absl::StrCat(Grouped(timing.queue_position_on_arrival()), " ahead of it on arrival, ",
                          Grouped(timing.queue_length_on_arrival()), " waiting")
           : "",
       ""},
      {"prefill",
       Joined({Count(timing.prefill_chunks(), "chunk", "chunks"),
               Rate(usage.prompt_tokens() - usage.cached_tokens(), timing.prefill())}),
       ""},
      {"decode",
       Joined({Count(timing.decode_steps(), "step", "steps"),
               timing.has_time_per_output_token()
                   ? absl::StrCat(Readable(Seconds(timing.time_per_output_token())), " per token")
                   : "",
               Count(timing.preemptions(), "preemption", "preemptions"),
               named("tokens computed again:",
                     timing.recomputed_tokens() == 0 ? "" : Grouped(timing.recomputed_tokens()))}),
       ""},
      {"longest gap",
       timing.has_longest_gap()
           ? Joined({Readable(Seconds(timing.longest_gap())),
                     timing.has_longest_gap_step()
                         ? absl::StrCat("ended by step ", Grouped(timing.longest_gap_step()))
                         : ""})
           : "",
       ""},
      {"deadline",
       timing.has_deadline_left() ? absl::StrCat(Readable(Seconds(timing.deadline_left())), " left") : "",
       ""},
      {"served by",
       Joined({named("pod", timing.pod()), named("node", timing.node()),
               named("yoio-server", timing.server_version()), named("model", timing.model_revision())}),
       ""},
  };
}

std::string Heading(const v1::RequestTrace& trace) {
  const v1::Usage& usage = trace.usage();
  const std::string cached =
      usage.cached_tokens() > 0 ? absl::StrCat(" (", Grouped(usage.cached_tokens()), " cached)") : "";
  const std::string tenant = trace.tenant().empty() ? "" : absl::StrCat(" of ", trace.tenant());
  const std::string arrival = trace.has_arrival() ? absl::StrCat("arrived ", Readable(trace.arrival())) : "";
  const std::string trace_id =
      trace.timing().has_trace_id() ? absl::StrCat("trace ", trace.timing().trace_id()) : "";
  const std::string when_and_where = Joined({arrival, trace_id});
  return absl::StrCat("request ", trace.request_id(), tenant, ": ", EndOf(trace), ", ",
                      Grouped(usage.prompt_tokens()), " prompt tokens", cached, ", ",
                      Grouped(usage.completion_tokens()), " generated\n", when_and_where,
                      when_and_where.empty() ? "" : "\n");
}

std::string Legend(const Terminal& terminal) {
  std::vector<std::string> words;
  for (const Phase& phase : PhasesOf({})) {
    const char* glyph = terminal.unicode ? phase.glyph : phase.ascii_glyph;
    words.push_back(absl::StrCat(Painted(glyph, phase.color, terminal), " ", phase.name));
  }
  return absl::StrJoin(words, "  ");
}

}  // namespace

std::string EndOf(const v1::RequestTrace& trace) {
  if (!trace.has_code()) return "live";
  return Joined({absl::StatusCodeToString(static_cast<absl::StatusCode>(trace.code())), trace.reason()});
}

std::string RequestPicture(const v1::RequestTrace& trace, const Terminal& terminal) {
  const std::string bars = Bars(trace, terminal);
  const std::string facts = Columns(Facts(trace));
  return absl::StrCat(Heading(trace), bars.empty() ? "" : "\n", bars, facts.empty() ? "" : "\n", facts);
}

std::string RequestTable(const std::vector<v1::RequestTrace>& traces, const Terminal& terminal) {
  constexpr int kColumnsBeforeBar = 7;
  constexpr int kLeastBar = 12;
  const auto time = [](bool measured, const google::protobuf::Duration& duration) {
    return measured ? Readable(Seconds(duration)) : "";
  };
  std::vector<std::vector<std::string>> lines;
  double longest = 0;
  for (const v1::RequestTrace& trace : traces) {
    const v1::Timing& timing = trace.timing();
    longest = std::max(longest, TotalOf(timing));
    lines.push_back({trace.request_id(), EndOf(trace), Grouped(trace.usage().prompt_tokens()),
                     Grouped(trace.usage().completion_tokens()),
                     time(timing.has_time_to_first_token(), timing.time_to_first_token()),
                     time(timing.has_longest_gap(), timing.longest_gap()), Readable(TotalOf(timing))});
  }
  const auto table_with = [&](const std::string& last_column) {
    Table table({{"request"},
                 {"ended"},
                 {"prompt", true},
                 {"output", true},
                 {"first token", true},
                 {"gap", true},
                 {"total", true},
                 {last_column}});
    for (const auto& line : lines) table.Add(line);
    return table;
  };
  const int room = terminal.width - table_with("").WidthOf(kColumnsBeforeBar) - 1;
  const TimeScale scale(longest, std::max(room, kLeastBar), terminal);
  Table table = table_with(scale.Labels());
  for (size_t i = 0; i < traces.size(); ++i) {
    std::vector<Segment> segments;
    for (const Phase& phase : PhasesOf(traces[i].timing())) {
      segments.push_back({phase.seconds, terminal.unicode ? phase.glyph : phase.ascii_glyph, phase.color});
    }
    table.Append(i, scale.Stack(segments));
  }
  return absl::StrCat(table.Text(), Legend(terminal), "\n");
}

}  // namespace yoio
