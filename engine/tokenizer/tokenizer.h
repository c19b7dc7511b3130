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
  // Supported: BPE with ByteLevel pre-tokenizer (alone, or after Split and Digits) and decoder, no
  // normalizer, at most 64 MiB. INVALID_ARGUMENT names the file and the part of it that is of another kind.
  // NOT_FOUND without the file. "truncation" and "padding" are not looked at: the limits of the server apply.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromFile(const std::string& path);
  virtual ~Tokenizer() = default;

  // Added and special tokens inside the text become their ids, as the reference library does; nothing else
  // adds any, so a begin-of-sequence token stands in the text or is not there (a TemplateProcessing in the
  // file has no effect). Any bytes are accepted: a malformed UTF-8 sequence counts as U+FFFD. Equals the
  // reference library but for characters newer than Unicode 14, which may be cut as symbols.
  // RESOURCE_EXHAUSTED when the pre-tokenizer's regular expression meets its limits. O(n log n) time and
  // about 20 bytes of memory for each byte of the longest word, whatever the text.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const = 0;

  // The bytes of the tokens, with malformed UTF-8 replaced by U+FFFD.
  virtual std::string Decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const = 0;

  // The bytes of one token: a piece of UTF-8 that may begin or end inside a character. Valid while the
  // tokenizer lives. None for an id without a token: a hole, or one beyond the end, as a model with a padded
  // vocabulary has.
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
