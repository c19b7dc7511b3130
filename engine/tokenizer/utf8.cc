#include "engine/tokenizer/utf8.h"

#include <algorithm>
#include <cstdint>

namespace yoio {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// What a lead byte asks of the bytes after it. The second byte's range excludes overlong forms, surrogates
// and everything past U+10FFFF; later ones are 80..BF.
struct Lead {
  size_t length;  // of the whole character; 0 if no character begins so
  uint8_t second_low, second_high;
};

constexpr Lead DecodeLead(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Bytes of `text` before its first sequence that is no character.
size_t ValidPrefix(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    const Utf8Sequence sequence = FirstUtf8Sequence(text.substr(position));
    if (sequence.kind != Utf8Sequence::kCharacter) break;
    position += sequence.length;
  }
  return position;
}

}  // namespace

Utf8Sequence FirstUtf8Sequence(std::string_view text) {
  const Lead lead = DecodeLead(text[0]);
  if (lead.length == 0) return {Utf8Sequence::kMalformed, 1};
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {Utf8Sequence::kUnfinished, i};
    const uint8_t byte = text[i];
    const uint8_t low = i == 1 ? lead.second_low : 0x80;
    const uint8_t high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Sequence::kMalformed, i};
  }
  return {Utf8Sequence::kCharacter, lead.length};
}

bool IsValidUtf8(std::string_view text) { return ValidPrefix(text) == text.size(); }

std::string ReplaceMalformedUtf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t valid = ValidPrefix(text);
    result.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) break;
    result.append(kReplacement);
    text.remove_prefix(FirstUtf8Sequence(text).length);
  }
  return result;
}

size_t UnfinishedUtf8Tail(std::string_view text) {
  for (size_t tail = 1; tail <= std::min<size_t>(3, text.size()); ++tail) {
    const uint8_t byte = text[text.size() - tail];
    if (byte < 0x80) return 0;
    if (byte >= 0xC0) {
      const Utf8Sequence last = FirstUtf8Sequence(text.substr(text.size() - tail));
      return last.kind == Utf8Sequence::kUnfinished && last.length == tail ? tail : 0;
    }
  }
  return 0;
}

}  // namespace yoio
