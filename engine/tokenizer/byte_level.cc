#include "engine/tokenizer/byte_level.h"

#include <array>
#include <cstdint>

namespace yoio {
namespace {

// Bytes that are printable Latin-1 characters stand for themselves; the others, in order, for U+0100 onwards.
// So every character of the alphabet lies below U+0144, and has one or two bytes.
constexpr int kAlphabetEnd = 0x144;

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

// The byte that each character stands for; -1 for characters outside the alphabet.
constexpr std::array<int16_t, kAlphabetEnd> MakeByteOfCharacter() {
  std::array<int16_t, kAlphabetEnd> byte_of{};
  byte_of.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) byte_of[StandsForItself(byte) ? byte : next++] = byte;
  return byte_of;
}

constexpr std::array<int16_t, kAlphabetEnd> kByteOfCharacter = MakeByteOfCharacter();

}  // namespace

std::optional<std::string> BytesFromByteLevel(std::string_view token) {
  std::string bytes;
  for (size_t i = 0; i < token.size(); ++i) {
    int character = static_cast<uint8_t>(token[i]);
    if (character >= 0x80) {
      if (i + 1 == token.size() || character < 0xC2 || character > 0xC5) return std::nullopt;
      character = (character & 0x1F) << 6 | (token[++i] & 0x3F);
    }
    if (character >= kAlphabetEnd || kByteOfCharacter[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kByteOfCharacter[character]));
  }
  return bytes;
}

}  // namespace yoio
