// Finds stop strings in text that arrives in pieces.
#ifndef YOIO_ENGINE_STOP_MATCHER_H_
#define YOIO_ENGINE_STOP_MATCHER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace yoio {

// Follows the text of one choice and lets through what cannot belong to a stop string any more. The match
// that ends first wins; of several that end at the same byte, the one given first. How the text is cut into
// pieces makes no difference. Held back is the longest end of the text that begins a stop string, hence
// always less than the longest stop string. With stop strings and pieces of whole UTF-8 characters the text
// let through is one too. Not thread-safe.
//
// Cost: one step of Knuth-Morris-Pratt for each byte and stop string.
class StopMatcher {
 public:
  // None of `stops` is empty. With `include_stop` the stop string stays in the text.
  StopMatcher(const std::vector<std::string>& stops, bool include_stop);

  struct Output {
    std::string text;         // free to go
    std::optional<int> stop;  // index of the stop string that ended the text, if one did
  };
  // Not called after a match.
  Output Append(std::string_view piece);

  // The text ends without a match: what was held back.
  std::string Flush();

 private:
  struct Pattern {
    std::string text;
    // fallback[i]: length of the longest proper prefix of `text` that is also an end of its first i + 1 bytes
    std::vector<int32_t> fallback;
    int32_t matched = 0;  // the longest prefix of `text` that is an end of what was appended
  };
  static int32_t Step(const Pattern& pattern, int32_t matched, char byte);
  // Index of the first pattern that `byte` completes.
  std::optional<int> StepAll(char byte);

  const bool include_stop_;
  std::vector<Pattern> patterns_;
  std::string held_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_STOP_MATCHER_H_
