// How long prompts and outputs are.
#ifndef YOIO_CLIENT_LOAD_LENGTHS_H_
#define YOIO_CLIENT_LOAD_LENGTHS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/load/random.h"

namespace yoio {

// A distribution of token counts, at least 1. Immutable.
//
//   512                          always this
//   128:1024                     uniform, both ends included
//   lognormal:MEDIAN:SIGMA       log-normal: two thirds are within a factor of e^SIGMA of the median
//   exponential:MEAN             exponential
//   2048:0.5,8192:0.3,131072:0.2 one of these, by weight; requests are also reported apart, by length
//
// Each count may end in K, 1024 tokens.
class Lengths {
 public:
  static absl::StatusOr<Lengths> Parse(const std::string& text);

  struct Draw {
    int32_t tokens;
    int length_class;  // the place in the list; 0 otherwise
  };
  Draw Next(Random& random) const;

  // The lengths of a list in its order; empty otherwise.
  const std::vector<int32_t>& listed() const { return listed_; }

  // The longest that can be drawn; absent (0) for a distribution without an end.
  int32_t longest() const;

 private:
  enum class Kind { kUniform, kLognormal, kExponential, kList };

  Kind kind_ = Kind::kUniform;
  double a_ = 1, b_ = 1;  // least and most; median and sigma; mean
  std::vector<int32_t> listed_;
  std::vector<double> up_to_;  // of a list: the sum of the shares up to each
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_LENGTHS_H_
