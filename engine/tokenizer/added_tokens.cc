#include "engine/tokenizer/added_tokens.h"

#include "base/check.h"
#include "base/status.h"

namespace yoio {

void AddedTokens::Add(std::string_view content, int32_t id) {
  YOIO_CHECK(!content.empty());
  begins_[static_cast<uint8_t>(content[0])] = true;
  uint32_t node = 0;
  for (const char byte : content) {
    const auto [edge, inserted] = edges_.emplace(Edge(node, byte), ids_.size());
    if (inserted) ids_.push_back(-1);
    node = edge->second;
  }
  ids_[node] = id;
}

AddedTokens::Match AddedTokens::LongestAt(std::string_view text) const {
  Match longest;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto edge = edges_.find(Edge(node, text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (ids_[node] >= 0) longest = {i + 1, ids_[node]};
  }
  return longest;
}

absl::Status AddedTokens::Split(std::string_view text,
                                absl::FunctionRef<absl::Status(std::string_view)> plain,
                                absl::FunctionRef<void(int32_t)> token) const {
  size_t gap = 0;
  for (size_t i = 0; i < text.size();) {
    const Match match = begins_[static_cast<uint8_t>(text[i])] ? LongestAt(text.substr(i)) : Match();
    if (match.length == 0) {
      ++i;
      continue;
    }
    if (gap < i) YOIO_RETURN_IF_ERROR(plain(text.substr(gap, i - gap)));
    token(match.id);
    i += match.length;
    gap = i;
  }
  return gap < text.size() ? plain(text.substr(gap)) : absl::OkStatus();
}

}  // namespace yoio
