#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace yoio {

StopMatcher::StopMatcher(const std::vector<std::string>& stops, bool include_stop)
    : include_stop_(include_stop) {
  for (const std::string& stop : stops) {
    YOIO_CHECK(!stop.empty()) << "an empty stop string";
    Pattern pattern{stop, {0}};
    for (size_t i = 1; i < stop.size(); ++i) {
      pattern.fallback.push_back(Step(pattern, pattern.fallback.back(), stop[i]));
    }
    patterns_.push_back(std::move(pattern));
  }
}

StopMatcher::Output StopMatcher::Append(std::string_view piece) {
  for (char byte : piece) {
    held_ += byte;
    const std::optional<int> stop = StepAll(byte);
    if (!stop) continue;
    if (!include_stop_) held_.resize(held_.size() - patterns_[*stop].text.size());
    return {std::exchange(held_, {}), stop};
  }
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max<size_t>(keep, pattern.matched);
  std::string free = held_.substr(0, held_.size() - keep);
  held_.erase(0, free.size());
  return {std::move(free), std::nullopt};
}

std::string StopMatcher::Flush() { return std::exchange(held_, {}); }

int32_t StopMatcher::Step(const Pattern& pattern, int32_t matched, char byte) {
  while (matched > 0 && pattern.text[matched] != byte) matched = pattern.fallback[matched - 1];
  return pattern.text[matched] == byte ? matched + 1 : 0;
}

std::optional<int> StopMatcher::StepAll(char byte) {
  std::optional<int> completed;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    Pattern& pattern = patterns_[i];
    pattern.matched = Step(pattern, pattern.matched, byte);
    if (pattern.matched == static_cast<int32_t>(pattern.text.size()) && !completed) {
      completed = static_cast<int>(i);
    }
  }
  return completed;
}

}  // namespace yoio
