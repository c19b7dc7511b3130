// Random text and bytes for property tests; the caller's generator makes them repeatable.
#ifndef YOIO_TESTS_SUPPORT_RANDOM_TEXT_H_
#define YOIO_TESTS_SUPPORT_RANDOM_TEXT_H_

#include <cstddef>
#include <iterator>
#include <string>

#include "tests/support/random.h"

namespace yoio::test {

// Valid UTF-8: `characters` words, digits, white space and symbols of several scripts, special tokens among
// them.
inline std::string RandomText(Random& random, size_t characters) {
  static constexpr const char* kPieces[] = {
      "a",    "e",       "h",         "l",      "o",      "T",      " ",  " ",          "  ",     "\n",
      "\r\n", "\t",      "'s",        "'LL",    "0",      "1",      "29", ".",          ", ",     "!?",
      "_",    "<|end|>", "<|start|>", "<",      "|>",     "é",      "ß",  "你",         "の",     "мир",
      "🙂", "\u200d",  "\u0301",    "\u00a0", "\u3000", "\u0085", "½",  "\U0010ffff", "<tool>", "hello"};
  std::string text;
  for (size_t i = 0; i < characters; ++i) text += kPieces[random.Below(std::size(kPieces))];
  return text;
}

// Any bytes, with those that begin or continue a UTF-8 character more often than by chance.
inline std::string RandomBytes(Random& random, size_t count) {
  static constexpr unsigned char kBytes[] = {'a',  ' ',  0x80, 0xBF, 0xA0, 0x9F, 0x90, 0xC1, 0xC2, 0xE0,
                                             0xE4, 0xED, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF, 0xBD, 0x00};
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    bytes.push_back(static_cast<char>(random.Below(4) == 0 ? random.Below(256)
                                                           : kBytes[random.Below(std::size(kBytes))]));
  }
  return bytes;
}

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_RANDOM_TEXT_H_
