// Brings rows of logits, of which every rank has a part, together on rank 0.
#ifndef YOIO_ENGINE_ROW_COLLECTOR_H_
#define YOIO_ENGINE_ROW_COLLECTOR_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"
#include "kernels/backend.h"

namespace yoio {

// For groups of more than one rank; used by the rank's thread. All ranks make the same calls.
class RowCollector {
 public:
  // Everything outlives the collector.
  struct Parts {
    kernels::Backend* backend;
    kernels::Stream* stream;
    Communicator* comm;
    int part_width;  // of a row on every rank
    int width;       // of a whole row: the parts side by side, cut off there
    int max_rows;    // of one call
  };
  static absl::StatusOr<std::unique_ptr<RowCollector>> Create(const Parts& parts);
  // Of device memory.
  static int64_t Bytes(int world, int part_width, int max_rows);

  // Queues: row rows[i] of `out` is the whole of row rows[i] of `mine`. `mine`: [*, part_width]. `rows`:
  // [num_rows], unique. `out`: [*, width], rank 0's; not used on other ranks. All of it is device memory.
  absl::Status Collect(const float* mine, const int32_t* rows, int num_rows, float* out);

 private:
  explicit RowCollector(const Parts& parts) : parts_(parts) {}

  const Parts parts_;
  kernels::Buffer sent_;      // [max_rows, part_width]
  kernels::Buffer received_;  // [world, max_rows, part_width]
};

}  // namespace yoio

#endif  // YOIO_ENGINE_ROW_COLLECTOR_H_
