#include "server/metrics/exposition.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/check.h"

namespace yoio {
namespace {

constexpr std::string_view kTotal = "_total";
constexpr std::string_view kInfo = "_info";
constexpr int64_t kMostExactInteger = int64_t{1} << 53;

bool EndsWith(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

std::string_view Without(std::string_view text, std::string_view suffix) {
  return EndsWith(text, suffix) ? text.substr(0, text.size() - suffix.size()) : text;
}

// As OpenMetrics calls it, whose counters and infos get their suffix on samples only.
std::string_view BaseName(const Family& family) {
  if (family.type == MetricType::kCounter) return Without(family.name, kTotal);
  if (family.type == MetricType::kInfo) return Without(family.name, kInfo);
  return family.name;
}

// "seconds"; empty when the name ends in none.
std::string_view UnitOf(std::string_view base_name) {
  for (const std::string_view unit : {"seconds", "bytes", "ratio"}) {
    if (EndsWith(base_name, unit)) return unit;
  }
  return "";
}

std::string_view TypeName(MetricType type, ExpositionFormat format) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
    case MetricType::kInfo:
      return format == ExpositionFormat::kOpenMetrics ? "info" : "gauge";
  }
  return "";
}

void AppendEscaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    if (c == '\n') {
      out.append("\\n");
    } else if (c == '\\' || c == '"') {
      out.push_back('\\');
      out.push_back(c);
    } else {
      out.push_back(c);
    }
  }
}

// The shortest text that reads back as `value`.
void AppendNumber(std::string& out, double value) {
  std::array<char, 32> text;
  const bool whole = value == std::floor(value) && std::abs(value) < static_cast<double>(kMostExactInteger);
  const std::to_chars_result result =
      whole ? std::to_chars(text.data(), text.data() + text.size(), static_cast<int64_t>(value))
            : std::to_chars(text.data(), text.data() + text.size(), value);
  out.append(text.data(), result.ptr);
}

// The ends of buckets as the label `le`: "0.0001", "1.0", "+Inf".
std::vector<std::string> BoundNames() {
  std::vector<std::string> names;
  for (const double bound : LatencyHistogram::kBounds) {
    std::array<char, 32> text;
    const auto end = std::to_chars(text.data(), text.data() + text.size(), bound, std::chars_format::fixed);
    names.emplace_back(text.data(), end.ptr);
    if (bound == std::floor(bound)) names.back().append(".0");
  }
  names.emplace_back("+Inf");
  return names;
}

// What `range`, one part of an Accept header such as "text/plain;version=0.0.4;q=0.5", gives to each format.
struct Preference {
  double text = 0;
  double open_metrics = 0;
};
Preference PreferenceOf(absl::string_view range) {
  const std::vector<absl::string_view> parts = absl::StrSplit(range, ';');
  double quality = 1;
  bool current = true;  // of the version that is written here
  for (size_t i = 1; i < parts.size(); ++i) {
    const std::pair<absl::string_view, absl::string_view> parameter = absl::StrSplit(parts[i], '=');
    const absl::string_view name = absl::StripAsciiWhitespace(parameter.first);
    const absl::string_view value = absl::StripAsciiWhitespace(parameter.second);
    if (name == "q" && !absl::SimpleAtod(value, &quality)) quality = 0;
    if (name == "version") current = value == "1.0.0";
  }
  const absl::string_view type = absl::StripAsciiWhitespace(parts[0]);
  if (absl::EqualsIgnoreCase(type, "application/openmetrics-text")) {
    return {.open_metrics = current ? quality : 0};
  }
  const bool text = type == "*/*" || type == "text/*" || absl::EqualsIgnoreCase(type, "text/plain");
  return {.text = text ? quality : 0};
}

}  // namespace

ExpositionFormat ChooseFormat(std::string_view accept) {
  Preference best;
  for (const absl::string_view range : absl::StrSplit(absl::string_view(accept.data(), accept.size()), ',')) {
    const Preference preference = PreferenceOf(range);
    best.text = std::max(best.text, preference.text);
    best.open_metrics = std::max(best.open_metrics, preference.open_metrics);
  }
  return best.open_metrics > 0 && best.open_metrics >= best.text ? ExpositionFormat::kOpenMetrics
                                                                 : ExpositionFormat::kText;
}

std::string_view ContentType(ExpositionFormat format) {
  return format == ExpositionFormat::kOpenMetrics
             ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
             : "text/plain; version=0.0.4; charset=utf-8";
}

Exposition::Exposition(ExpositionFormat format) : format_(format), bounds_(BoundNames()) {}

void Exposition::Begin(const Family& family) {
  family_ = &family;
  const bool open_metrics = format_ == ExpositionFormat::kOpenMetrics;
  const std::string_view name = open_metrics ? BaseName(family) : family.name;
  text_.append("# HELP ").append(name).append(" ").append(family.help);
  text_.append("\n# TYPE ").append(name).append(" ").append(TypeName(family.type, format_)).append("\n");
  const std::string_view unit = UnitOf(name);
  if (open_metrics && !unit.empty()) {
    text_.append("# UNIT ").append(name).append(" ").append(unit).append("\n");
  }
}

void Exposition::Add(std::initializer_list<std::string_view> labels, double value) {
  YOIO_CHECK(family_->type != MetricType::kHistogram);
  AppendSample("", labels, "", value);
  text_.push_back('\n');
}

void Exposition::Add(std::initializer_list<std::string_view> labels, const LatencyHistogram& histogram,
                     const Exemplars* exemplars) {
  YOIO_CHECK(family_->type == MetricType::kHistogram);
  int64_t cumulative = 0;
  for (size_t bucket = 0; bucket < histogram.counts().size(); ++bucket) {
    cumulative += histogram.counts()[bucket];
    AppendSample("_bucket", labels, bounds_[bucket], static_cast<double>(cumulative));
    if (exemplars != nullptr && format_ == ExpositionFormat::kOpenMetrics)
      AppendExemplar((*exemplars)[bucket]);
    text_.push_back('\n');
  }
  AppendSample("_sum", labels, "", histogram.sum());
  text_.push_back('\n');
  AppendSample("_count", labels, "", static_cast<double>(cumulative));
  text_.push_back('\n');
}

std::string Exposition::Finish() && {
  if (format_ == ExpositionFormat::kOpenMetrics) text_.append("# EOF\n");
  return std::move(text_);
}

void Exposition::AppendSample(std::string_view suffix, std::initializer_list<std::string_view> labels,
                              std::string_view le, double value) {
  text_.append(family_->name).append(suffix);
  char separator = '{';
  size_t index = 0;
  const auto append_label = [&](std::string_view name, std::string_view label) {
    text_.push_back(separator);
    separator = ',';
    text_.append(name).append("=\"");
    AppendEscaped(text_, label);
    text_.push_back('"');
  };
  for (const std::string_view label : labels) append_label(family_->labels[index++], label);
  YOIO_CHECK(index == kMaxLabels || family_->labels[index].empty());
  if (!le.empty()) append_label("le", le);
  text_.append(separator == '{' ? " " : "} ");
  AppendNumber(text_, value);
}

void Exposition::AppendExemplar(const Exemplar& exemplar) {
  if (exemplar.trace == std::array<uint8_t, 16>{}) return;
  const absl::string_view bytes(reinterpret_cast<const char*>(exemplar.trace.data()), exemplar.trace.size());
  absl::StrAppend(&text_, " # {trace_id=\"", absl::BytesToHexString(bytes), "\"} ");
  AppendNumber(text_, exemplar.value);
  // Milliseconds: what Prometheus keeps.
  std::array<char, 32> time;
  const auto end =
      std::to_chars(time.data(), time.data() + time.size(), exemplar.time, std::chars_format::fixed, 3);
  text_.push_back(' ');
  text_.append(time.data(), end.ptr);
}

}  // namespace yoio
