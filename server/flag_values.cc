#include "server/flag_values.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

namespace yoio {
namespace {

struct Unit {
  const char* name;
  int64_t bytes;
};
constexpr Unit kUnits[] = {{"TiB", 1LL << 40}, {"GiB", 1LL << 30}, {"MiB", 1LL << 20}, {"KiB", 1LL << 10}};

}  // namespace

absl::StatusOr<Duration> ParseDuration(const std::string& text) {
  absl::Duration parsed;
  if (!absl::ParseDuration(text, &parsed) || parsed < absl::ZeroDuration() ||
      parsed > absl::Hours(24 * 365)) {
    return absl::InvalidArgumentError(
        "expected a duration with its unit, for instance 500ms, 60s, 10m or 1h");
  }
  return absl::ToChronoNanoseconds(parsed);
}

std::string FormatDuration(Duration duration) { return absl::FormatDuration(absl::FromChrono(duration)); }

absl::StatusOr<int64_t> ParseBytes(const std::string& text) {
  absl::string_view digits = text;
  int64_t unit_bytes = 1;
  for (const Unit& unit : kUnits) {
    if (absl::ConsumeSuffix(&digits, unit.name)) {
      unit_bytes = unit.bytes;
      break;
    }
  }
  int64_t count = 0;
  const bool all_digits = std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit);
  if (!all_digits || !absl::SimpleAtoi(digits, &count) ||
      count > std::numeric_limits<int64_t>::max() / unit_bytes) {
    return absl::InvalidArgumentError("expected bytes, for instance 1048576, 512KiB, 16MiB or 2GiB");
  }
  return count * unit_bytes;
}

std::string FormatBytes(int64_t bytes) {
  for (const Unit& unit : kUnits) {
    if (bytes >= unit.bytes && bytes % unit.bytes == 0) return absl::StrCat(bytes / unit.bytes, unit.name);
  }
  return absl::StrCat(bytes);
}

FlagValue TextValue(std::string& target) {
  auto set = [&target](const std::string& text) {
    if (text.empty()) return absl::InvalidArgumentError("expected something");
    target = text;
    return absl::OkStatus();
  };
  return {set, [&target] { return target; }};
}

FlagValue IntValue(int& target, int min, int max, std::string zero) {
  auto set = [&target, min, max](const std::string& text) {
    int value = 0;
    if (!absl::SimpleAtoi(text, &value) || value < min || value > max) {
      return absl::InvalidArgumentError(absl::StrCat("expected a whole number from ", min, " to ", max));
    }
    target = value;
    return absl::OkStatus();
  };
  auto show = [&target, zero] { return target == 0 && !zero.empty() ? zero : absl::StrCat(target); };
  return {set, show};
}

FlagValue Int64Value(int64_t& target, int64_t min, int64_t max) {
  auto set = [&target, min, max](const std::string& text) {
    int64_t value = 0;
    if (!absl::SimpleAtoi(text, &value) || value < min || value > max) {
      return absl::InvalidArgumentError(absl::StrCat("expected a whole number from ", min, " to ", max));
    }
    target = value;
    return absl::OkStatus();
  };
  return {set, [&target] { return absl::StrCat(target); }};
}

FlagValue RatioValue(double& target) {
  auto set = [&target](const std::string& text) {
    double value = 0;
    if (!absl::SimpleAtod(text, &value) || !(value > 0) || value > 1) {
      return absl::InvalidArgumentError("expected a number above 0 and at most 1");
    }
    target = value;
    return absl::OkStatus();
  };
  return {set, [&target] { return absl::StrCat(target); }};
}

FlagValue RatioOrZeroValue(double& target) {
  auto set = [&target](const std::string& text) {
    double value = 0;
    if (!absl::SimpleAtod(text, &value) || !(value >= 0) || value > 1) {
      return absl::InvalidArgumentError("expected a number from 0 to 1");
    }
    target = value;
    return absl::OkStatus();
  };
  return {set, [&target] { return absl::StrCat(target); }};
}

FlagValue BytesValue(std::function<void(int64_t)> store, std::function<int64_t()> load, int64_t min,
                     int64_t max, std::string zero) {
  auto set = [store, min, max](const std::string& text) -> absl::Status {
    const absl::StatusOr<int64_t> bytes = ParseBytes(text);
    if (!bytes.ok()) return bytes.status();
    if (*bytes < min || *bytes > max) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected ", FormatBytes(min), " to ", FormatBytes(max), " bytes"));
    }
    store(*bytes);
    return absl::OkStatus();
  };
  auto show = [load, zero] { return load() == 0 && !zero.empty() ? zero : FormatBytes(load()); };
  return {set, show};
}

FlagValue DurationValue(Duration& target, Duration min, std::string zero) {
  auto set = [&target, min](const std::string& text) -> absl::Status {
    const absl::StatusOr<Duration> duration = ParseDuration(text);
    if (!duration.ok()) return duration.status();
    if (*duration < min) {
      return absl::InvalidArgumentError(absl::StrCat("expected at least ", FormatDuration(min)));
    }
    target = *duration;
    return absl::OkStatus();
  };
  auto show = [&target, zero] {
    return target == Duration::zero() && !zero.empty() ? zero : FormatDuration(target);
  };
  return {set, show};
}

FlagValue SwitchValue(bool& target) {
  auto set = [&target](const std::string& text) {
    if (text != "on" && text != "true" && text != "off" && text != "false") {
      return absl::InvalidArgumentError("expected on or off");
    }
    target = text == "on" || text == "true";
    return absl::OkStatus();
  };
  return {set, [&target] { return std::string(target ? "on" : "off"); }};
}

}  // namespace yoio
