#include "client/load/lengths.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace yoio {
namespace {

constexpr int32_t kMost = 1 << 30;

// "2048" or "2K".
std::optional<int32_t> ParseCount(absl::string_view text) {
  const bool kilo = absl::ConsumeSuffix(&text, "K");
  int64_t count = 0;
  if (!absl::SimpleAtoi(text, &count) || count < 1 || count > (kilo ? kMost / 1024 : kMost)) {
    return std::nullopt;
  }
  return static_cast<int32_t>(kilo ? count * 1024 : count);
}

bool ParsePositive(absl::string_view text, double& value) {
  return absl::SimpleAtod(text, &value) && value > 0 && std::isfinite(value);
}

int32_t Clamped(double tokens) { return static_cast<int32_t>(std::clamp<double>(tokens, 1, kMost)); }

}  // namespace

absl::StatusOr<Lengths> Lengths::Parse(const std::string& text) {
  const absl::Status wrong = absl::InvalidArgumentError(absl::StrCat(
      "expected COUNT, LEAST:MOST, lognormal:MEDIAN:SIGMA, exponential:MEAN or COUNT:WEIGHT,..., got ",
      text));
  Lengths lengths;
  if (text.find(',') != std::string::npos) {
    lengths.kind_ = Kind::kList;
    double sum = 0;
    for (absl::string_view entry : absl::StrSplit(text, ',')) {
      const std::vector<absl::string_view> parts = absl::StrSplit(entry, ':');
      const std::optional<int32_t> count = ParseCount(parts[0]);
      double weight = 1;
      if (!count || parts.size() > 2 || (parts.size() == 2 && !ParsePositive(parts[1], weight))) return wrong;
      lengths.listed_.push_back(*count);
      lengths.up_to_.push_back(sum += weight);
    }
    for (double& up_to : lengths.up_to_) up_to /= sum;
    return lengths;
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  if (parts[0] == "lognormal") {
    lengths.kind_ = Kind::kLognormal;
    if (parts.size() != 3 || !ParsePositive(parts[1], lengths.a_) || !ParsePositive(parts[2], lengths.b_)) {
      return wrong;
    }
    return lengths;
  }
  if (parts[0] == "exponential") {
    lengths.kind_ = Kind::kExponential;
    if (parts.size() != 2 || !ParsePositive(parts[1], lengths.a_)) return wrong;
    return lengths;
  }
  const std::optional<int32_t> least = ParseCount(parts[0]), most = ParseCount(parts.back());
  if (parts.size() > 2 || !least || !most || *least > *most) return wrong;
  lengths.a_ = *least;
  lengths.b_ = *most;
  return lengths;
}

Lengths::Draw Lengths::Next(Random& random) const {
  switch (kind_) {
    case Kind::kUniform:
      return {static_cast<int32_t>(random.Between(std::llround(a_), std::llround(b_))), 0};
    case Kind::kLognormal:
      return {Clamped(a_ * std::exp(b_ * random.Normal())), 0};
    case Kind::kExponential:
      return {Clamped(a_ * random.Exponential()), 0};
    case Kind::kList:
      break;
  }
  const auto at = std::upper_bound(up_to_.begin(), up_to_.end(), random.Uniform());
  const int index = static_cast<int>(std::min<size_t>(at - up_to_.begin(), listed_.size() - 1));
  return {listed_[index], index};
}

int32_t Lengths::longest() const {
  switch (kind_) {
    case Kind::kUniform:
      return static_cast<int32_t>(b_);
    case Kind::kList:
      return *std::max_element(listed_.begin(), listed_.end());
    default:
      return 0;
  }
}

}  // namespace yoio
