// When requests of an open loop are sent.
#ifndef YOIO_CLIENT_LOAD_ARRIVALS_H_
#define YOIO_CLIENT_LOAD_ARRIVALS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "client/load/random.h"

namespace yoio {

// Requests a second: `from`, changing evenly to `to` over `over`, then staying there. A fixed rate has
// from == to.
struct RateOptions {
  double from = 0, to = 0;
  Duration over{};
  bool poisson = false;  // gaps between arrivals are exponential; else even
};

// "FROM:TO:SECONDS".
absl::StatusOr<RateOptions> ParseRamp(const std::string& text);

// A schedule that nothing delays: the same options and seed give the same times. Not thread-safe.
class Arrivals {
 public:
  Arrivals(const RateOptions& options, uint64_t seed);

  // When the next request is due, counted from the start of the run. Never earlier than the one before.
  Duration Next();

 private:
  // The time at which `expected_` requests are expected to have been sent.
  double TimeOf(double expected) const;

  const RateOptions options_;
  Random random_;
  double expected_ = 0;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_ARRIVALS_H_
