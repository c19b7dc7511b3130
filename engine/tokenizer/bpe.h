// Byte-pair encoding of one word.
#ifndef YOIO_ENGINE_TOKENIZER_BPE_H_
#define YOIO_ENGINE_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace yoio {

// The merges of a vocabulary. Immutable once in use, hence thread-safe. Owned by the tokenizer.
class BytePairEncoder {
 public:
  // Working memory of one thread, reused from word to word.
  struct Scratch {
    struct Symbol {
      int32_t id;        // -1: merged into the symbol before it
      int32_t previous;  // indices of the neighbours; the sentinels are -1 and the number of symbols
      int32_t next;
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;  // a heap of (rank, index of the left symbol)
  };

  // `byte_ids`: the token of each single byte; -1 for bytes that no word will contain.
  explicit BytePairEncoder(const std::array<int32_t, 256>& byte_ids) : byte_ids_(byte_ids) {}

  // Merges are preferred in the order in which they are added. Returns false for a pair that has one already.
  bool AddMerge(int32_t left, int32_t right, int32_t merged);
  // A word that equals `bytes` is this token, whatever the merges would make of it.
  void AddWholeWord(const std::string& bytes, int32_t id) { whole_words_.emplace(bytes, id); }

  // Appends the tokens of `word`, of fewer than 2^31 bytes. O(n log n) time; for a word beyond kShortWord
  // about 20 bytes of memory for each of its own.
  void Encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };

  const Merge* FindMerge(int32_t left, int32_t right) const;
  void EncodeShort(std::string_view word, std::vector<int32_t>& ids) const;
  void EncodeLong(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by (left id, right id)
  absl::flat_hash_map<std::string, int32_t> whole_words_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_BPE_H_
