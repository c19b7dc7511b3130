// tokenizer.json, read into the parts of a tokenizer. Everything in the file either has its effect or is
// refused by name.
#ifndef YOIO_ENGINE_TOKENIZER_TOKENIZER_JSON_H_
#define YOIO_ENGINE_TOKENIZER_TOKENIZER_JSON_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/files/json_cursor.h"
#include "engine/tokenizer/bpe_tokenizer.h"

namespace yoio {

// `origin` names the text in errors, which are INVALID_ARGUMENT.
absl::StatusOr<BpeTokenizerParts> ParseTokenizerJson(std::string_view json, const std::string& origin);

// The "pre_tokenizer" section: ByteLevel, or a Sequence of Split and Digits that ends in ByteLevel.
absl::StatusOr<std::vector<SplitStep>> ParsePreTokenizer(const JsonCursor& section);
// OK if the "decoder" section is ByteLevel, alone or in a Sequence of one.
absl::Status CheckDecoder(const JsonCursor& section);
// OK if the "post_processor" section changes no ids but by adding special tokens, which Encode never does.
absl::Status CheckPostProcessor(const JsonCursor& section);

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_TOKENIZER_JSON_H_
