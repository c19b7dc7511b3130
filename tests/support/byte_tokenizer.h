// A tokenizer whose tokens are bytes: what goes in and out of a test can be read.
#ifndef YOIO_TESTS_SUPPORT_BYTE_TOKENIZER_H_
#define YOIO_TESTS_SUPPORT_BYTE_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace yoio::test {

// Ids 0 to 255 are the bytes; kEos is special and reads "</s>".
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kEos = 256;

  ByteTokenizer() {
    for (int byte = 0; byte < 256; ++byte) bytes_[byte] = static_cast<char>(byte);
  }

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (char c : text) ids.push_back(static_cast<uint8_t>(c));
    return ids;
  }

  std::string Decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const override {
    Detokenizer detokenizer(*this, skip_special_tokens);
    std::string text;
    for (int32_t id : ids) text += detokenizer.Append(id);
    return text + detokenizer.Flush();
  }

  std::string_view TokenBytes(int32_t id) const override {
    return id == kEos ? std::string_view("</s>") : std::string_view(&bytes_[id], 1);
  }
  bool IsSpecial(int32_t id) const override { return id == kEos; }
  int32_t vocab_size() const override { return kEos + 1; }

 private:
  std::array<char, 256> bytes_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_BYTE_TOKENIZER_H_
