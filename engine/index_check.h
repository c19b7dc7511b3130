// Compares the indexes of all ranks, for tests: whoever attends to other tokens than the others computes
// something, and nobody would notice.
#ifndef YOIO_ENGINE_INDEX_CHECK_H_
#define YOIO_ENGINE_INDEX_CHECK_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"
#include "engine/model/index_set.h"
#include "kernels/backend.h"

namespace yoio {

// Used by its rank's thread.
class IndexCheck {
 public:
  // All outlive the check.
  struct Parts {
    kernels::Backend* backend;
    kernels::Stream* stream;
    Communicator* comm;
  };
  static absl::StatusOr<std::unique_ptr<IndexCheck>> Create(const Parts& parts);

  // A collective, after a step whose index is meant for its first `num_rows` rows. Waits for the device.
  // INTERNAL, on all ranks, when the counts or slots of any two differ.
  absl::Status Run(int64_t step, const IndexSet& index, int num_rows);

 private:
  explicit IndexCheck(const Parts& parts) : parts_(parts) {}

  const Parts parts_;
  kernels::Buffer hashes_;  // device, uint64: this rank's, then those of all ranks
  std::vector<int32_t> count_, slots_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_INDEX_CHECK_H_
