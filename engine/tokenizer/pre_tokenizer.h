// Cuts text into the words that byte-pair merges never cross.
#ifndef YOIO_ENGINE_TOKENIZER_PRE_TOKENIZER_H_
#define YOIO_ENGINE_TOKENIZER_PRE_TOKENIZER_H_

#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/tokenizer/regex.h"

namespace yoio {

// One step of the pipeline; every piece that it makes goes to the next.
struct SplitStep {
  // What happens to the matches of the pattern and to the gaps between them.
  enum class Behavior {
    kIsolate,      // each match and each gap is a piece
    kDropMatches,  // each gap is a piece
    kDropGaps,     // each match is a piece
  };

  bool add_space = false;        // first put a space before a piece that does not begin with one
  std::optional<Regex> pattern;  // none: the piece goes on whole
  Behavior behavior = Behavior::kIsolate;
};

// Immutable, hence thread-safe. Owned by the tokenizer.
class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<SplitStep> steps) : steps_(std::move(steps)) {}

  // Calls `word` with each word of `text` in order; the view is valid during that call only. `text` is valid
  // UTF-8. RESOURCE_EXHAUSTED when a pattern meets its limits.
  absl::Status Split(std::string_view text, RegexScratch& scratch,
                     absl::FunctionRef<void(std::string_view)> word) const {
    return RunFrom(0, text, scratch, word);
  }

 private:
  absl::Status RunFrom(size_t step, std::string_view piece, RegexScratch& scratch,
                       absl::FunctionRef<void(std::string_view)> word) const;

  std::vector<SplitStep> steps_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_PRE_TOKENIZER_H_
