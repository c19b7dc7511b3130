// Attention in double precision, and how far float arithmetic may lie from it.
#ifndef YOIO_TESTS_KERNELS_ATTENTION_REFERENCE_H_
#define YOIO_TESTS_KERNELS_ATTENTION_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/support/compare.h"

namespace yoio::test {

// Key and value of one head of one token: head_dim floats each.
struct KeyValue {
  const float* k;
  const float* v;
};

// Appends the head_dim outputs of one query over `tokens`, and a bound for each.
//
// A score of d products is wrong by at most a DotBound, and a weight by twice that in relation to the others;
// then come an exponential, the rescaling and summing of n weights, twice (below the line and above it), and
// a division. Weights and outputs are activations: each is rounded by at most `unit` in relation to itself.
inline void AppendAttention(const float* q, const std::vector<KeyValue>& tokens, int head_dim, double unit,
                            std::vector<double>& expected, std::vector<double>& bound) {
  constexpr double kExpUnits = 8.0;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  std::vector<double> weights;
  double score_error = 0.0;
  for (const KeyValue& token : tokens) {
    double score = 0.0, magnitude = 0.0;
    for (int i = 0; i < head_dim; ++i) {
      score += double{q[i]} * token.k[i];
      magnitude += std::abs(double{q[i]} * token.k[i]);
    }
    weights.push_back(score * scale);
    score_error = std::max(score_error, DotBound(head_dim + 2, magnitude * scale));
  }
  const double maximum = *std::max_element(weights.begin(), weights.end());
  double sum = 0.0;
  for (double& weight : weights) sum += weight = std::exp(weight - maximum);
  const double computed = 2.0 * score_error + (2.0 * tokens.size() + 2.0 * kExpUnits) * kFloatUnit;
  const double relative = (1.0 + computed) * (1.0 + unit) * (1.0 + unit) - 1.0;
  for (int i = 0; i < head_dim; ++i) {
    double value = 0.0, magnitude = 0.0;
    for (size_t t = 0; t < tokens.size(); ++t) {
      value += weights[t] * tokens[t].v[i];
      magnitude += weights[t] * std::abs(tokens[t].v[i]);
    }
    expected.push_back(value / sum);
    bound.push_back(relative * magnitude / sum);
  }
}

}  // namespace yoio::test

#endif  // YOIO_TESTS_KERNELS_ATTENTION_REFERENCE_H_
