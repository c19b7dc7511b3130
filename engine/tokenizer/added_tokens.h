// Finds added and special tokens in text, where they become their ids before anything else happens.
#ifndef YOIO_ENGINE_TOKENIZER_ADDED_TOKENS_H_
#define YOIO_ENGINE_TOKENIZER_ADDED_TOKENS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace yoio {

// A set of literal texts, searched leftmost first, the longest at one place. Immutable once in use, hence
// thread-safe. Owned by the tokenizer.
class AddedTokens {
 public:
  // `content` is not empty.
  void Add(std::string_view content, int32_t id);

  // Walks `text` from left to right: `plain` for each gap that is not empty, `token` for each match. Stops at
  // the first error of `plain`.
  absl::Status Split(std::string_view text, absl::FunctionRef<absl::Status(std::string_view)> plain,
                     absl::FunctionRef<void(int32_t id)> token) const;

 private:
  struct Match {
    size_t length = 0;  // 0: none
    int32_t id = -1;
  };

  static uint64_t Edge(uint32_t node, char byte) { return uint64_t{node} << 8 | static_cast<uint8_t>(byte); }
  Match LongestAt(std::string_view text) const;

  std::array<bool, 256> begins_ = {};  // whether a token begins with this byte: most positions end here
  // A trie: its edges by (node, byte), and for each node the token that ends there, or -1. Node 0 is the
  // root.
  absl::flat_hash_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> ids_ = {-1};
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_ADDED_TOKENS_H_
