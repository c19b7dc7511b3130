#include "client/load/axis.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace yoio {
namespace {

// The `index`-th of ..., 0.1, 0.2, 0.5, 1, 2, 5, 10, ...; 1 is the 0th.
double RoundNumber(int index) {
  constexpr double kSteps[] = {1, 2, 5};
  const int decade = static_cast<int>(std::floor(index / 3.0));
  return kSteps[index - 3 * decade] * std::pow(10, decade);
}

// The largest of them that is not above `value`, which is above 0.
int RoundNumberBelow(double value) {
  int index = 3 * static_cast<int>(std::floor(std::log10(value)));
  while (RoundNumber(index + 1) <= value * (1 + 1e-9)) ++index;
  return index;
}

std::vector<double> LogTicks(double least, double most) {
  const int first = RoundNumberBelow(least);
  int last = RoundNumberBelow(most);
  if (RoundNumber(last) < most * (1 - 1e-9) || last == first) ++last;
  std::vector<double> ticks;
  constexpr int kMostTicks = 12;
  const bool decades_only = last - first > kMostTicks;
  for (int i = first; i <= last; ++i) {
    if (!decades_only || i % 3 == 0 || i == first || i == last) ticks.push_back(RoundNumber(i));
  }
  return ticks;
}

std::vector<double> LinearTicks(double most) {
  constexpr double kTicks = 6;
  const double step = RoundNumber(RoundNumberBelow(most / kTicks) + 1);
  std::vector<double> ticks = {0};
  while (ticks.back() < most * (1 - 1e-9)) ticks.push_back(step * static_cast<double>(ticks.size()));
  return ticks;
}

}  // namespace

double Axis::Place(double value) const {
  const double first = ticks_.front(), last = ticks_.back();
  if (logarithmic_) return std::log(value / first) / std::log(last / first);
  return (value - first) / (last - first);
}

Axis AxisOver(const std::vector<double>& values, bool logarithmic) {
  double least = 1, most = 0;
  for (const double value : values) {
    if (value <= 0) continue;
    least = most == 0 ? value : std::min(least, value);
    most = std::max(most, value);
  }
  if (most == 0) most = 1;
  return Axis(logarithmic ? LogTicks(least, most) : LinearTicks(most), logarithmic);
}

std::string NumberLabel(double value) { return absl::StrFormat("%.6g", value); }

std::string SecondsLabel(double seconds) {
  if (seconds >= 1 || seconds == 0) return absl::StrCat(NumberLabel(seconds), " s");
  if (seconds >= 1e-3) return absl::StrCat(NumberLabel(seconds * 1e3), " ms");
  return absl::StrCat(NumberLabel(seconds * 1e6), " us");
}

}  // namespace yoio
