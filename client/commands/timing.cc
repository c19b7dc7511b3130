#include "client/commands/timing.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/commands/report.h"
#include "client/commands/seconds.h"

namespace yoio {
namespace {

std::string TokensPerSecond(double tokens, double seconds) {
  if (tokens <= 0 || seconds <= 0) return "";
  return absl::StrCat(Grouped(std::llround(tokens / seconds)), " tokens/s");
}

}  // namespace

std::string TimingBlock(const RequestRecord& record) {
  const v1::Usage& usage = record.usage;
  const v1::Timing& timing = record.timing;
  const auto row = [](std::string name, bool measured, const google::protobuf::Duration& duration,
                      double tokens = 0) {
    const double seconds = Seconds(duration);
    return Row{std::move(name), measured ? Readable(seconds) : "", TokensPerSecond(tokens, seconds)};
  };
  const std::string cached =
      usage.cached_tokens() > 0 ? absl::StrCat(Grouped(usage.cached_tokens()), " of them cached") : "";
  const std::string gap_step =
      timing.has_longest_gap_step() ? absl::StrCat("ended by step ", timing.longest_gap_step()) : "";
  Row longest_gap = row("longest gap", timing.has_longest_gap(), timing.longest_gap());
  longest_gap.remark = gap_step;
  return Columns({
      {"request", record.request_id, ""},
      {"prompt", absl::StrCat(Grouped(usage.prompt_tokens()), " tokens"), cached},
      {"output", absl::StrCat(Grouped(usage.completion_tokens()), " tokens"), record.endings},
      row("tokenize", timing.has_tokenize(), timing.tokenize()),
      row("queue", timing.has_queue(), timing.queue()),
      row("prefill", timing.has_prefill(), timing.prefill(), usage.prompt_tokens() - usage.cached_tokens()),
      row("time to first token", timing.has_time_to_first_token(), timing.time_to_first_token()),
      row("time per token", timing.has_time_per_output_token(), timing.time_per_output_token(), 1),
      longest_gap,
      row("total", timing.has_total(), timing.total()),
  });
}

std::string ShortName(v1::FinishReason reason) {
  const std::string name = v1::FinishReason_Name(reason);
  return name.empty() ? absl::StrCat(static_cast<int>(reason))
                      : std::string(absl::StripPrefix(name, "FINISH_REASON_"));
}

}  // namespace yoio
