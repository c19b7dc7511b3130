// How the text of a flag becomes a value and back.
#ifndef YOIO_SERVER_FLAG_VALUES_H_
#define YOIO_SERVER_FLAG_VALUES_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"

namespace yoio {

// "90s", "1h30m", "500ms". INVALID_ARGUMENT says what was expected.
absl::StatusOr<Duration> ParseDuration(const std::string& text);
std::string FormatDuration(Duration duration);

// "1048576", "512KiB", "16MiB", "2GiB".
absl::StatusOr<int64_t> ParseBytes(const std::string& text);
std::string FormatBytes(int64_t bytes);

// A variable that a flag sets. The variable outlives it.
struct FlagValue {
  // INVALID_ARGUMENT says what was expected.
  std::function<absl::Status(const std::string& text)> set;
  std::function<std::string()> show;
};

FlagValue TextValue(std::string& target);
// `zero`, when given, is what 0 is called: "auto", "the model's own".
FlagValue IntValue(int& target, int min, int max, std::string zero = "");
FlagValue Int64Value(int64_t& target, int64_t min, int64_t max);
// In (0, 1].
FlagValue RatioValue(double& target);
// In [0, 1].
FlagValue RatioOrZeroValue(double& target);
FlagValue BytesValue(std::function<void(int64_t)> store, std::function<int64_t()> load, int64_t min,
                     int64_t max, std::string zero = "");
FlagValue DurationValue(Duration& target, Duration min, std::string zero = "");
// "on" or "off"; "true" and "false" are taken as well.
FlagValue SwitchValue(bool& target);

// One of several words.
template <typename T>
FlagValue ChoiceValue(T& target, std::vector<std::pair<std::string, T>> choices) {
  auto set = [&target, choices](const std::string& text) {
    std::string expected;
    for (const auto& [word, value] : choices) {
      if (word == text) {
        target = value;
        return absl::OkStatus();
      }
      expected += (expected.empty() ? "expected " : " or ") + word;
    }
    return absl::InvalidArgumentError(expected);
  };
  auto show = [&target, choices] {
    for (const auto& [word, value] : choices) {
      if (value == target) return word;
    }
    return std::string();
  };
  return {set, show};
}

}  // namespace yoio

#endif  // YOIO_SERVER_FLAG_VALUES_H_
