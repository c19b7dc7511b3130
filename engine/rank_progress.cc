#include "engine/rank_progress.h"

#include "base/status.h"

namespace yoio {

absl::StatusOr<std::unique_ptr<RankProgress>> RankProgress::Create(int rank, kernels::Backend& backend) {
  YOIO_ASSIGN_OR_RETURN(kernels::Buffer word, backend.AllocateHost(sizeof(int32_t)));
  return std::unique_ptr<RankProgress>(new RankProgress(rank, std::move(word)));
}

RankProgress::RankProgress(int rank, kernels::Buffer word) : rank_(rank), word_(std::move(word)) {
  *word_.As<int32_t>() = 0;
}

RankState RankProgress::state() const {
  const std::atomic_ref<int32_t> phase(*word_.As<int32_t>());
  return {.rank = rank_,
          .step = step_.load(std::memory_order_relaxed),
          .phase = static_cast<StepPhase>(phase.load(std::memory_order_relaxed)),
          .collective = collective_.load(std::memory_order_relaxed)};
}

}  // namespace yoio
