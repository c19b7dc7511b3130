// The byte-level alphabet: tokenizer.json spells each byte of a token as one printable character.
#ifndef YOIO_ENGINE_TOKENIZER_BYTE_LEVEL_H_
#define YOIO_ENGINE_TOKENIZER_BYTE_LEVEL_H_

#include <optional>
#include <string>
#include <string_view>

namespace yoio {

// The bytes that `token` (UTF-8) spells; nullopt when it has a character outside the alphabet, as special
// tokens may.
std::optional<std::string> BytesFromByteLevel(std::string_view token);

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_BYTE_LEVEL_H_
