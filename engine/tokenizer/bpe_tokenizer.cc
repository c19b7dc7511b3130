#include "engine/tokenizer/bpe_tokenizer.h"

#include "engine/tokenizer/utf8.h"

namespace yoio {

absl::StatusOr<std::vector<int32_t>> BpeTokenizer::Encode(std::string_view text) const {
  std::string repaired;
  if (!IsValidUtf8(text)) text = repaired = ReplaceMalformedUtf8(text);

  std::vector<int32_t> ids;
  RegexScratch regex_scratch;
  BytePairEncoder::Scratch bpe_scratch;
  const auto add_word = [&](std::string_view word) { parts_.encoder.Encode(word, bpe_scratch, ids); };
  const auto add_token = [&](int32_t id) { ids.push_back(id); };
  const auto add_words = [&](std::string_view piece) {
    return parts_.pre_tokenizer.Split(piece, regex_scratch, add_word);
  };
  const auto add_normalized = [&](std::string_view piece) {
    return parts_.normalized_tokens.Split(piece, add_words, add_token);
  };
  const absl::Status status = parts_.raw_tokens.Split(text, add_normalized, add_token);
  if (!status.ok()) return status;
  return ids;
}

std::string BpeTokenizer::Decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids) {
    const TokenEntry& entry = Entry(id);
    if (!(skip_special_tokens && entry.special)) bytes += entry.bytes;
  }
  return ReplaceMalformedUtf8(bytes);
}

const TokenEntry& BpeTokenizer::Entry(int32_t id) const {
  return id >= 0 && id < vocab_size() ? parts_.vocabulary[id] : hole_;
}

}  // namespace yoio
