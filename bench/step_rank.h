// One rank's part of whole steps: its weights, its cache full of noise, its model.
#ifndef YOIO_BENCH_STEP_RANK_H_
#define YOIO_BENCH_STEP_RANK_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/lab.h"
#include "engine/checkpoint/config.h"
#include "engine/comm/communicator.h"
#include "engine/model/model.h"
#include "engine/model/step_marks.h"
#include "engine/sampler.h"
#include "engine/step_times.h"
#include "kernels/backend.h"

namespace yoio::bench {

// What all ranks of a model have in common.
struct StepShape {
  ModelConfig config;
  StepLimits limits;
  CacheGeometry geometry;
  bool index_by_rows;  // each rank indexes its part of the rows, instead of rank 0 all of them
  bool marked;         // with the stamps between phases that every worker makes
};

// The rank's thread only. `lab`, `comm` and `shape` outlive it.
class StepRank {
 public:
  // Device memory that a rank takes.
  static int64_t Bytes(const StepShape& shape, const Shard& shard, kernels::DType type);

  // All ranks at the same time: what they record holds collectives.
  StepRank(Lab& lab, Communicator& comm, const StepShape& shape);

  // Queues a step, with what a worker queues to draw its tokens. At most limits.depth of them before the
  // device is waited for.
  void Run(const StepPlan& plan);

  // Where the time of the last step went; waits for it. Only with marks.
  StepTimes Times();

  // Bytes that this rank must read in a decode step.
  double DecodeBytes(int context, int batch) const;
  // FLOPs that the prompt tokens [begin, end) must take on this rank: the self-decoder and what the memory
  // stores of it.
  double PrefillFlops(int begin, int end) const;
  // Bytes of keys and values, index keys apart: of a cached token in stores without a window, and of the
  // window rings of a sequence.
  double KvBytesPerToken() const;
  double KvBytesPerRing() const;

 private:
  absl::Status Queue(const StepPlan& plan);
  void FillCache();
  double KvBytes(bool in_window) const;

  Lab& lab_;
  const StepShape& shape_;
  const Shard shard_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<KvCache> cache_;
  kernels::Buffer samples_;  // the ids of the last step
  std::unique_ptr<Sampler> sampler_;
  std::vector<Sampler::Step> sampling_;  // [limits.depth]
  size_t next_ = 0;                      // which of them
  kernels::Buffer times_;                // StepMarks::Times
  std::unique_ptr<StepMarks> marks_;     // null without
  std::unique_ptr<Model> model_;
};

}  // namespace yoio::bench

#endif  // YOIO_BENCH_STEP_RANK_H_
