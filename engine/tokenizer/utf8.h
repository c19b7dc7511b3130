// UTF-8 from untrusted bytes. A malformed sequence is replaced by one U+FFFD for each maximal subpart (the
// Unicode standard's recommendation, and what Rust and Python do): the longest prefix that could still have
// become a character counts once.
#ifndef YOIO_ENGINE_TOKENIZER_UTF8_H_
#define YOIO_ENGINE_TOKENIZER_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace yoio {

struct Utf8Sequence {
  enum Kind {
    kCharacter,   // one well-formed character
    kMalformed,   // a maximal subpart of none
    kUnfinished,  // the text ends inside a character
  };
  Kind kind;
  size_t length;  // bytes, 1 to 4
};

// The sequence at the beginning of `text`, which is not empty.
Utf8Sequence FirstUtf8Sequence(std::string_view text);

bool IsValidUtf8(std::string_view text);

// `text` with every malformed or unfinished sequence replaced by U+FFFD.
std::string ReplaceMalformedUtf8(std::string_view text);

// How many bytes at the end of `text` may still become a character: 0 to 3.
size_t UnfinishedUtf8Tail(std::string_view text);

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_UTF8_H_
