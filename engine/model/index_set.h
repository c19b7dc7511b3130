// The cached tokens worth attending to, for every output row: computed once, broadcast once, read by every
// cross-decoder layer through a const reference.
#ifndef YOIO_ENGINE_MODEL_INDEX_SET_H_
#define YOIO_ENGINE_MODEL_INDEX_SET_H_

#include <cstdint>

namespace yoio {

struct IndexSet {
  const int32_t* slots = nullptr;  // [num_rows, top_k] cache slots, ascending by logical position
  const int32_t* count = nullptr;  // [num_rows] how many of a row's slots are meant; the rest is never read
  int num_rows = 0;
  int top_k = 0;

  // Counts and slots lie in one array, so that one broadcast carries both: where the slots of `num_rows` rows
  // begin, in elements. They begin a cache line.
  static int64_t SlotsBegin(int num_rows) { return (num_rows + 15) / 16 * int64_t{16}; }
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_INDEX_SET_H_
