// Texts of the shipped model's kind, and what it writes after them.
#ifndef YOIO_TESTS_PARITY_DOCUMENTS_H_
#define YOIO_TESTS_PARITY_DOCUMENTS_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/parity/model_harness.h"

namespace yoio::test {

// The demo text of models/yoio-tiny in another order, a fact in it, and the question.
class Documents {
 public:
  Documents();

  // Number 0 is the whole demo document in its own order, with a fact; the others are shorter. At most
  // `most_lines` lines of it.
  std::string Make(int number, int most_lines = std::numeric_limits<int>::max()) const;

 private:
  std::vector<std::string> lines_;
  std::vector<std::vector<std::string>> lists_;  // adjectives, nouns
};

struct Continuation {
  std::vector<int32_t> ids;
  std::vector<std::vector<float>> logits;  // that each was chosen from
};

// Greedy; the cache of slot 0 is written over by every call.
Continuation Continue(ModelHarness& harness, const std::vector<int32_t>& prompt, int count);

// By how much the model preferred one token to another: the difference of their log-probabilities.
float Gap(const std::vector<float>& logits, int32_t chosen, int32_t other);

}  // namespace yoio::test

#endif  // YOIO_TESTS_PARITY_DOCUMENTS_H_
