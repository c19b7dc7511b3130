// Byte-level BPE, as described by a Hugging Face tokenizer.json.
#ifndef YOIO_ENGINE_TOKENIZER_TOKENIZER_H_
#define YOIO_ENGINE_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace yoio {

// Immutable after creation, hence thread-safe.
class Tokenizer {
 public:
  // INVALID_ARGUMENT names the file and the part of it that is of an unsupported kind. NOT_FOUND without the
  // file.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromFile(const std::string& path);
  virtual ~Tokenizer() = default;

  // Added and special tokens inside the text become their ids, as the reference library does. Any bytes are
  // accepted. RESOURCE_EXHAUSTED when the pre-tokenizer's regular expression meets its limits.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const = 0;

  // The bytes of the tokens, with malformed UTF-8 replaced by U+FFFD. Ids must be inside the vocabulary.
  virtual std::string Decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const = 0;

  // The bytes of one token: a piece of UTF-8 that may begin or end inside a character.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;
  // One more than the highest id.
  virtual int32_t vocab_size() const = 0;
};

// Turns the tokens of one choice into text as they come, never splitting a UTF-8 character. Not thread-safe.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // The text that `id` completes; bytes of an unfinished character are kept for the next call.
  std::string Append(int32_t id);
  // What is left at the end: U+FFFD for each malformed sequence, or nothing.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_tokens_;
  std::string pending_;  // at most three bytes of an unfinished character
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_TOKENIZER_H_
