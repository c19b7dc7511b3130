#include "engine/tokenizer/pre_tokenizer.h"

#include <string>

#include "base/status.h"

namespace yoio {

absl::Status PreTokenizer::RunFrom(size_t step, std::string_view piece, RegexScratch& scratch,
                                   absl::FunctionRef<void(std::string_view)> word) const {
  if (piece.empty()) return absl::OkStatus();
  if (step == steps_.size()) {
    word(piece);
    return absl::OkStatus();
  }
  const auto& [add_space, pattern, behavior] = steps_[step];
  std::string spaced;
  if (add_space && piece.front() != ' ') piece = spaced = std::string(" ").append(piece);
  if (!pattern) return RunFrom(step + 1, piece, scratch, word);

  size_t done = 0;
  while (done < piece.size()) {
    YOIO_ASSIGN_OR_RETURN(const std::optional<Regex::Match> match, pattern->Find(piece, done, scratch));
    const size_t begin = match ? match->begin : piece.size();
    const size_t end = match ? match->end : piece.size();
    if (behavior != SplitStep::Behavior::kDropGaps) {
      YOIO_RETURN_IF_ERROR(RunFrom(step + 1, piece.substr(done, begin - done), scratch, word));
    }
    if (behavior != SplitStep::Behavior::kDropMatches) {
      YOIO_RETURN_IF_ERROR(RunFrom(step + 1, piece.substr(begin, end - begin), scratch, word));
    }
    done = end;
  }
  return absl::OkStatus();
}

}  // namespace yoio
