// How much of the host's memory preempted sequences may have, and how it is divided.
#ifndef YOIO_ENGINE_SWAP_PLAN_H_
#define YOIO_ENGINE_SWAP_PLAN_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "engine/model/plan.h"

namespace yoio {

// Bytes that each rank may take: `options.swap_bytes`; or, where it is -1, an eighth of what its host has for
// it, 4 GiB at most. None on a CPU then, where the cache could have had them.
int64_t SwapBytes(const EngineOptions& options, const DeviceMemory& devices);

// Divides them between rings, at most half of them, and blocks: fills in `sizing.cache.host_blocks` and
// `host_rings`, the same on every rank, and `sizing.memory.swap_bytes`. All are 0 when no ring with a block
// fits. The rest of `sizing` is there. INVALID_ARGUMENT names the flag.
absl::Status PlanSwap(const EngineOptions& options, const ModelConfig& config, const DeviceMemory& devices,
                      Sizing& sizing);

}  // namespace yoio

#endif  // YOIO_ENGINE_SWAP_PLAN_H_
