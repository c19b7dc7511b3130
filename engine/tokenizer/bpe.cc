#include "engine/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "base/check.h"

namespace yoio {
namespace {

// Up to here a scan for the best pair after each merge beats the heap.
constexpr size_t kShortWord = 32;
constexpr uint32_t kNoMerge = std::numeric_limits<uint32_t>::max();

uint64_t Pack(uint32_t high, uint32_t low) { return uint64_t{high} << 32 | low; }

}  // namespace

bool BytePairEncoder::AddMerge(int32_t left, int32_t right, int32_t merged) {
  const Merge merge{static_cast<uint32_t>(merges_.size()), merged};
  return merges_.emplace(Pack(left, right), merge).second;
}

const BytePairEncoder::Merge* BytePairEncoder::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(Pack(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairEncoder::Encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  YOIO_CHECK_LT(word.size(), size_t{std::numeric_limits<int32_t>::max()});
  if (!whole_words_.empty()) {
    if (const auto found = whole_words_.find(absl::string_view(word.data(), word.size()));
        found != whole_words_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  if (word.size() <= kShortWord) {
    EncodeShort(word, ids);
  } else {
    EncodeLong(word, scratch, ids);
  }
}

void BytePairEncoder::EncodeShort(std::string_view word, std::vector<int32_t>& ids) const {
  int32_t symbols[kShortWord];
  Merge merges[kShortWord];  // of symbol i with symbol i + 1
  size_t count = word.size();
  const auto update = [&](size_t i) {
    const Merge* merge = i + 1 < count ? FindMerge(symbols[i], symbols[i + 1]) : nullptr;
    merges[i] = merge != nullptr ? *merge : Merge{kNoMerge, -1};
  };
  for (size_t i = 0; i < count; ++i) symbols[i] = byte_ids_[static_cast<uint8_t>(word[i])];
  for (size_t i = 0; i < count; ++i) update(i);
  while (true) {
    const auto lower_rank = [](const Merge& a, const Merge& b) { return a.rank < b.rank; };
    const size_t best = std::min_element(merges, merges + count, lower_rank) - merges;
    if (count == 0 || merges[best].rank == kNoMerge) break;
    symbols[best] = merges[best].id;
    std::copy(symbols + best + 2, symbols + count, symbols + best + 1);
    std::copy(merges + best + 2, merges + count, merges + best + 1);
    --count;
    update(best);
    if (best > 0) update(best - 1);
  }
  ids.insert(ids.end(), symbols, symbols + count);
}

// A doubly linked list of symbols and a heap of the merges that are possible between neighbours. Entries that
// a merge makes stale stay in the heap and are recognised by their rank when they come up.
void BytePairEncoder::EncodeLong(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<uint64_t>& queue = scratch.queue;
  const int32_t count = static_cast<int32_t>(word.size());
  symbols.resize(count);
  queue.clear();
  for (int32_t i = 0; i < count; ++i) symbols[i] = {byte_ids_[static_cast<uint8_t>(word[i])], i - 1, i + 1};

  const auto merge_at = [&](int32_t i) -> const Merge* {
    if (i < 0 || symbols[i].id < 0 || symbols[i].next == count) return nullptr;
    return FindMerge(symbols[i].id, symbols[symbols[i].next].id);
  };
  for (int32_t i = 0; i < count; ++i) {
    if (const Merge* merge = merge_at(i)) queue.push_back(Pack(merge->rank, i));
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  const auto push = [&](int32_t i) {
    const Merge* merge = merge_at(i);
    if (merge == nullptr) return;
    queue.push_back(Pack(merge->rank, i));
    std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };

  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const uint32_t rank = queue.back() >> 32;
    const int32_t left = static_cast<int32_t>(queue.back());
    queue.pop_back();
    const Merge* merge = merge_at(left);
    if (merge == nullptr || merge->rank != rank) continue;
    const int32_t right = symbols[left].next;
    symbols[left].id = merge->id;
    symbols[left].next = symbols[right].next;
    symbols[right].id = -1;
    if (symbols[left].next < count) symbols[symbols[left].next].previous = left;
    push(left);
    push(symbols[left].previous);
  }
  for (int32_t i = 0; i < count; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace yoio
