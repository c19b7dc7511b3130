#include "client/load/saturation.h"

namespace yoio {

bool Follows(const LoadResult& result) {
  constexpr double kShare = 0.95;
  const double sent_per_second = static_cast<double>(result.sent) / result.seconds;
  return result.sent > 0 && result.completed_per_second >= kShare * sent_per_second;
}

double FindSaturation(double capacity, const std::function<LoadResult(double rate)>& run) {
  double low = 0.4 * capacity, high = 1.2 * capacity, found = 0;
  for (int i = 0; i < 5; ++i) {
    const double rate = (low + high) / 2;
    if (Follows(run(rate))) {
      found = low = rate;
    } else {
      high = rate;
    }
  }
  return found;
}

}  // namespace yoio
