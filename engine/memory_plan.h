// How memory is divided at start-up: weights, activations, and all the rest for the cache.
#ifndef YOIO_ENGINE_MEMORY_PLAN_H_
#define YOIO_ENGINE_MEMORY_PLAN_H_

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/kv_cache.h"
#include "engine/model/plan.h"
#include "engine/model/step_inputs.h"

namespace yoio {

struct Sizing {
  MemoryPlan memory;
  CacheGeometry cache;
  StepLimits limits;
  int32_t max_model_len = 0;
};

// Divides `options.kv_cache_bytes`, or what the backend has available less weights and activations, between
// rings and blocks. RESOURCE_EXHAUSTED or INVALID_ARGUMENT name the flag to change and the bytes that are
// missing.
absl::StatusOr<Sizing> PlanMemory(const EngineOptions& options, const ModelConfig& config,
                                  kernels::Backend& backend);

}  // namespace yoio

#endif  // YOIO_ENGINE_MEMORY_PLAN_H_
