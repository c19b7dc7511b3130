#include "client/commands/seconds.h"

#include <cstdint>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace yoio {

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}

double SecondsBetween(const google::protobuf::Timestamp& begin, const google::protobuf::Timestamp& end) {
  return static_cast<double>(end.seconds() - begin.seconds()) + 1e-9 * (end.nanos() - begin.nanos());
}

google::protobuf::Duration ToProto(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  google::protobuf::Duration duration;
  duration.set_seconds(whole);
  duration.set_nanos(static_cast<int32_t>((seconds - static_cast<double>(whole)) * 1e9));
  return duration;
}

std::optional<double> ParseSeconds(const std::string& text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration)) return std::nullopt;
  if (duration <= absl::ZeroDuration() || duration == absl::InfiniteDuration()) return std::nullopt;
  return absl::ToDoubleSeconds(duration);
}

std::string Readable(double seconds) {
  // Thresholds are where rounding comes to another digit.
  const bool whole = seconds >= 0.9995;
  const double value = whole ? seconds : seconds * 1e3;
  const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return absl::StrFormat("%.*f %s", decimals, value, whole ? "s" : "ms");
}

std::string Readable(const google::protobuf::Timestamp& time) {
  const absl::Time moment = absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
  return absl::FormatTime("%Y-%m-%d %H:%M:%E3S UTC", moment, absl::UTCTimeZone());
}

}  // namespace yoio
