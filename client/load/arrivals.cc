#include "client/load/arrivals.h"

#include <cmath>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace yoio {

absl::StatusOr<RateOptions> ParseRamp(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  RateOptions ramp;
  double seconds = 0;
  if (parts.size() != 3 || !absl::SimpleAtod(parts[0], &ramp.from) || !absl::SimpleAtod(parts[1], &ramp.to) ||
      !absl::SimpleAtod(parts[2], &seconds) || !(ramp.from > 0) || !(ramp.to > 0) || !(seconds > 0) ||
      !std::isfinite(ramp.from + ramp.to + seconds)) {
    return absl::InvalidArgumentError(absl::StrCat("expected FROM:TO:SECONDS, all above 0, got ", text));
  }
  ramp.over = FromSeconds(seconds);
  return ramp;
}

Arrivals::Arrivals(const RateOptions& options, uint64_t seed) : options_(options), random_(seed) {}

Duration Arrivals::Next() {
  if (options_.poisson) expected_ += random_.Exponential();
  const Duration due = FromSeconds(TimeOf(expected_));
  if (!options_.poisson) expected_ += 1;
  return due;
}

double Arrivals::TimeOf(double expected) const {
  // During the ramp, from * t + (to - from) * t^2 / (2 * over) requests are expected by t.
  const double over = ToSeconds(options_.over);
  const double in_ramp = over * (options_.from + options_.to) / 2;
  if (expected >= in_ramp) return over + (expected - in_ramp) / options_.to;
  const double rise = (options_.to - options_.from) / over;
  // The root of the quadratic equation in the form that stays exact when `rise` is 0.
  return 2 * expected / (options_.from + std::sqrt(options_.from * options_.from + 2 * rise * expected));
}

}  // namespace yoio
