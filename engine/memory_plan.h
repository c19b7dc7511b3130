// How memory is divided at start-up: weights, activations, and all the rest for the cache.
#ifndef YOIO_ENGINE_MEMORY_PLAN_H_
#define YOIO_ENGINE_MEMORY_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/kv_cache.h"
#include "engine/model/plan.h"
#include "engine/model/step_inputs.h"
#include "kernels/backend.h"

namespace yoio {

struct Sizing {
  MemoryPlan memory;
  CacheGeometry cache;
  StepLimits limits;
  int32_t max_model_len = 0;
  bool prefix_cache = false;  // asked for, and the model's plan can have one
  // So many tokens replayed before a position make its window stores exact: a key depends on a window more
  // with each layer.
  int32_t replay_tokens = 0;
};

// The devices of the ranks: all of one kind.
struct DeviceMemory {
  std::string device;              // its name
  kernels::DType activations;      // their type
  bool asynchronous;               // it works while the host goes on
  std::vector<int64_t> available;  // bytes that each rank may take, from rank 0 on; not of ranks unknown yet
  int64_t host_available = 0;      // of its host's memory, for each rank; the least of all
};

// Divides `options.kv_cache_bytes`, or what each rank may take less its weights and activations, between
// rings, snapshots and blocks; all ranks get as many as the one with the least room. Snapshots take an
// eighth, and nothing that the longest sequence needs. RESOURCE_EXHAUSTED or INVALID_ARGUMENT name the flag
// to change and the bytes that are missing.
absl::StatusOr<Sizing> PlanMemory(const EngineOptions& options, const ModelConfig& config,
                                  const DeviceMemory& devices);

}  // namespace yoio

#endif  // YOIO_ENGINE_MEMORY_PLAN_H_
