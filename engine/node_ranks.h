// How the ranks of an engine are dealt out to its nodes.
#ifndef YOIO_ENGINE_NODE_RANKS_H_
#define YOIO_ENGINE_NODE_RANKS_H_

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/plan.h"

namespace yoio {

// The ranks [first, first + count) are this process's.
struct NodeRanks {
  int world = 1;
  int first = 0;
  int count = 1;
};

// Nodes share the ranks evenly, in order. INVALID_ARGUMENT names the flag, or the key of config.json that the
// ranks do not divide.
absl::StatusOr<NodeRanks> CheckNodes(const EngineOptions& options, const ModelConfig& config);

// Threads of this process's ranks together: as --threads says, else what the process may use; one for each
// rank at least.
int ThreadsOf(const EngineOptions& options, const NodeRanks& ranks);

}  // namespace yoio

#endif  // YOIO_ENGINE_NODE_RANKS_H_
