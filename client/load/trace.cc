#include "client/load/trace.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <array>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace yoio {
namespace {

constexpr std::array<const char*, 5> kColumns = {"time", "prompt_tokens", "output_tokens", "prefix",
                                                 "prefix_tokens"};
using Values = std::array<std::optional<double>, kColumns.size()>;

bool ReadJson(absl::string_view line, Values& values) {
  google::protobuf::Struct object;
  if (!google::protobuf::util::JsonStringToMessage(std::string(line), &object).ok()) return false;
  for (const auto& [name, value] : object.fields()) {
    const auto column = std::find(kColumns.begin(), kColumns.end(), name);
    if (column == kColumns.end() || !value.has_number_value()) return false;
    values[column - kColumns.begin()] = value.number_value();
  }
  return true;
}

bool ReadCsv(absl::string_view line, Values& values) {
  const std::vector<absl::string_view> parts = absl::StrSplit(line, ',');
  if (parts.size() > kColumns.size()) return false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const absl::string_view part = absl::StripAsciiWhitespace(parts[i]);
    double value = 0;
    if (part.empty()) continue;
    if (!absl::SimpleAtod(part, &value)) return false;
    values[i] = value;
  }
  return true;
}

std::optional<TraceEntry> ToEntry(const Values& values) {
  const auto [time, prompt, output, prefix, prefix_tokens] = values;
  constexpr double kMostTokens = 1 << 30, kMostSeconds = 1e8, kMostPrefix = 1e15;
  const auto within = [](double value, double least, double most) { return value >= least && value <= most; };
  if (!time || !prompt || !output || !within(*time, 0, kMostSeconds) || !within(*prompt, 1, kMostTokens) ||
      !within(*output, 1, kMostTokens) || !within(prefix.value_or(0), 0, kMostPrefix)) {
    return std::nullopt;
  }
  TraceEntry entry;
  entry.at = FromSeconds(*time);
  entry.prompt_tokens = static_cast<int32_t>(*prompt);
  entry.output_tokens = static_cast<int32_t>(*output);
  if (prefix) {
    const double shared = prefix_tokens.value_or(*prompt / 2);
    if (!within(shared, 0, *prompt)) return std::nullopt;
    entry.prefix = static_cast<int64_t>(*prefix);
    entry.prefix_tokens = static_cast<int32_t>(shared);
  }
  return entry;
}

}  // namespace

absl::StatusOr<Trace> ParseTrace(const std::string& text) {
  Trace trace;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || (number == 1 && absl::ascii_isalpha(line[0]))) continue;
    Values values;
    const bool read = line[0] == '{' ? ReadJson(line, values) : ReadCsv(line, values);
    const std::optional<TraceEntry> entry = read ? ToEntry(values) : std::nullopt;
    if (!entry) {
      return absl::InvalidArgumentError(absl::StrCat(
          "line ", number, " is no request: time, prompt_tokens, output_tokens[, prefix[, prefix_tokens]]"));
    }
    trace.push_back(*entry);
  }
  if (trace.empty()) return absl::InvalidArgumentError("the trace holds no request");
  std::stable_sort(trace.begin(), trace.end(),
                   [](const TraceEntry& a, const TraceEntry& b) { return a.at < b.at; });
  return trace;
}

}  // namespace yoio
