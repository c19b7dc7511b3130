// The cached tokens worth attending to, for every output row: computed once, shared once, read by every
// cross-decoder layer through a const reference.
#ifndef YOIO_ENGINE_MODEL_INDEX_SET_H_
#define YOIO_ENGINE_MODEL_INDEX_SET_H_

#include <cstdint>

namespace yoio {

// Slots travel between ranks; counts need not: a row selects all tokens that it may see, or top_k of them
// (invariant I6), and every rank knows how many it may see.
struct IndexSet {
  const int32_t* slots = nullptr;  // [num_rows, top_k] cache slots, ascending by logical position
  const int32_t* count = nullptr;  // [num_rows] how many of a row's slots are meant; the rest is never read
  int num_rows = 0;
  int top_k = 0;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_INDEX_SET_H_
