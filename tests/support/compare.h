// Comparisons that say where two arrays differ most, and by how much.
#ifndef YOIO_TESTS_SUPPORT_COMPARE_H_
#define YOIO_TESTS_SUPPORT_COMPARE_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"

namespace yoio::test {

// Rounding unit of float: half the distance from 1 to the next number.
inline constexpr double kFloatUnit = std::numeric_limits<float>::epsilon() / 2;

// How far a float sum of `terms` products can lie from the exact one, in any order of summation, when the
// absolute values of the products add up to `magnitude`; with two more roundings to spare for what is done to
// the sum afterwards.
inline double DotBound(size_t terms, double magnitude) {
  return static_cast<double>(terms + 2) * kFloatUnit * magnitude + std::numeric_limits<float>::min();
}

// Succeeds when NaN and infinities stand at the same places and every other actual[i] lies within bound[i] of
// expected[i].
inline ::testing::AssertionResult AllNear(absl::Span<const float> actual, absl::Span<const double> expected,
                                          absl::Span<const double> bound) {
  if (actual.size() != expected.size() || actual.size() != bound.size()) {
    return ::testing::AssertionFailure() << "sizes differ: " << actual.size() << ", expected "
                                         << expected.size() << ", bounds " << bound.size();
  }
  size_t outside = 0, worst = 0;
  double worst_ratio = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double value = actual[i];
    if (std::isfinite(value) != std::isfinite(expected[i]) || std::isnan(value) != std::isnan(expected[i])) {
      return ::testing::AssertionFailure() << "at " << i << ": " << value << ", expected " << expected[i];
    }
    if (!std::isfinite(value)) {
      if (std::isinf(value) && value != expected[i]) {
        return ::testing::AssertionFailure() << "at " << i << ": " << value << ", expected " << expected[i];
      }
      continue;
    }
    const double error = std::abs(value - expected[i]);
    if (error <= bound[i]) continue;
    ++outside;
    const double ratio = bound[i] > 0 ? error / bound[i] : std::numeric_limits<double>::infinity();
    if (ratio > worst_ratio) {
      worst_ratio = ratio;
      worst = i;
    }
  }
  if (outside == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << outside << " of " << actual.size() << " outside their bounds, worst at " << worst << ": "
         << actual[worst] << ", expected " << expected[worst] << " within " << bound[worst];
}

inline ::testing::AssertionResult AllNear(absl::Span<const float> actual, absl::Span<const double> expected,
                                          double bound) {
  return AllNear(actual, expected, std::vector<double>(actual.size(), bound));
}

// Succeeds when both arrays hold the same bits: NaN equals the same NaN, -0 differs from +0.
template <typename T>
::testing::AssertionResult SameBits(absl::Span<const T> actual, absl::Span<const T> expected) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure()
           << "sizes differ: " << actual.size() << ", expected " << expected.size();
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::memcmp(&actual[i], &expected[i], sizeof(T)) != 0) {
      return ::testing::AssertionFailure()
             << "first at " << i << ": " << actual[i] << ", expected " << expected[i];
    }
  }
  return ::testing::AssertionSuccess();
}

template <typename T>
::testing::AssertionResult SameBits(const std::vector<T>& actual, const std::vector<T>& expected) {
  return SameBits(absl::MakeConstSpan(actual), absl::MakeConstSpan(expected));
}

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_COMPARE_H_
