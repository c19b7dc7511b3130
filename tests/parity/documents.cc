#include "tests/parity/documents.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <utility>

#include "base/check.h"
#include "tests/support/random.h"

namespace yoio::test {

Documents::Documents() {
  const std::string demo = std::string(YOIO_SOURCE_DIR) + "/models/yoio-tiny/demo/";
  std::ifstream text(demo + "document.txt"), words(demo + "words.txt");
  for (std::string line; std::getline(text, line);) lines_.push_back(line);
  for (std::string word; words >> word;) {
    if (word.back() == ':') {
      lists_.emplace_back();
    } else {
      lists_.back().push_back(word);
    }
  }
}

std::string Documents::Make(int number, int most_lines) const {
  Random random(number);
  std::vector<std::string> lines = lines_;
  if (number > 0) {
    for (size_t i = lines.size() - 1; i > 0; --i)
      std::swap(lines[i], lines[random.Below(static_cast<int>(i) + 1)]);
    lines.resize(300 + random.Below(700));
  }
  lines.resize(std::min(lines.size(), static_cast<size_t>(most_lines)));
  const std::string key = lists_[0][random.Below(static_cast<int>(lists_[0].size()))] + " " +
                          lists_[1][random.Below(static_cast<int>(lists_[1].size()))];
  char fact[8];
  std::snprintf(fact, sizeof(fact), "%05d", static_cast<int>(random.Below(100000)));
  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(random.Below(static_cast<int>(lines.size()))),
               "Remember: the " + key + " code is " + fact + ".");
  std::string document;
  for (const std::string& line : lines) document += line + "\n";
  return document + "\nThe " + key + " code is";
}

Continuation Continue(ModelHarness& harness, const std::vector<int32_t>& prompt, int count) {
  Continuation result;
  const int chunk = 1024;
  const auto size = static_cast<int32_t>(prompt.size());
  const auto take = [&](const absl::StatusOr<StepOutput>& output) {
    YOIO_CHECK(output.ok()) << output.status().ToString();
    const auto best = std::max_element(output->logits.begin(), output->logits.end());
    result.ids.push_back(static_cast<int32_t>(best - output->logits.begin()));
    result.logits.push_back(output->logits);
  };
  for (int32_t begin = 0; begin < size; begin += chunk) {
    const int32_t end = std::min(begin + chunk, size);
    Piece piece{
        .slot = 0, .start = begin, .ids = {prompt.begin() + begin, prompt.begin() + end}, .outputs = {}};
    if (end == size) piece.outputs = {end - begin - 1};
    const auto output = harness.Run({piece});
    if (end == size) take(output);
  }
  while (static_cast<int>(result.ids.size()) < count) {
    const auto place = size + static_cast<int32_t>(result.ids.size()) - 1;
    take(harness.Run(
        {{.slot = 0, .start = place, .ids = {result.ids.back()}, .outputs = {0}, .generated = true}}));
  }
  return result;
}

float Gap(const std::vector<float>& logits, int32_t chosen, int32_t other) {
  return logits[chosen] - logits[other];
}

}  // namespace yoio::test
