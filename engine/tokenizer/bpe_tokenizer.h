// The one implementation of Tokenizer: added tokens, then words, then byte pairs.
#ifndef YOIO_ENGINE_TOKENIZER_BPE_TOKENIZER_H_
#define YOIO_ENGINE_TOKENIZER_BPE_TOKENIZER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/tokenizer.h"

namespace yoio {

// A vocabulary entry. One without bytes is a hole in the numbering.
struct TokenEntry {
  std::string bytes;
  bool special = false;
};

// What a tokenizer.json comes down to.
struct BpeTokenizerParts {
  std::vector<TokenEntry> vocabulary;  // by id
  AddedTokens raw_tokens;              // found in the text as it came
  AddedTokens normalized_tokens;       // found in what is left between those
  PreTokenizer pre_tokenizer;
  BytePairEncoder encoder;
};

// Immutable, hence thread-safe.
class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeTokenizerParts parts) : parts_(std::move(parts)) {}

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override;
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const override;
  std::string_view TokenBytes(int32_t id) const override { return Entry(id).bytes; }
  bool IsSpecial(int32_t id) const override { return Entry(id).special; }
  int32_t vocab_size() const override { return static_cast<int32_t>(parts_.vocabulary.size()); }

 private:
  const TokenEntry& Entry(int32_t id) const;

  const BpeTokenizerParts parts_;
  const TokenEntry hole_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_BPE_TOKENIZER_H_
