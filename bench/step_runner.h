// Whole steps of a model of one rank, with dummy weights and a cache full of noise: what step_bench times and
// idle_bench traces.
#ifndef YOIO_BENCH_STEP_RUNNER_H_
#define YOIO_BENCH_STEP_RUNNER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/lab.h"
#include "engine/checkpoint/config.h"
#include "engine/comm/communicator.h"
#include "engine/model/model.h"
#include "kernels/backend.h"

namespace yoio::bench {

// What is measured on one kind of device.
struct Scale {
  std::vector<int> contexts;
  std::vector<int> batches;
  int chunk;         // prompt tokens a step
  int prompt_begin;  // the prompt tokens of [begin, end) are timed
  int prompt_end;

  static Scale Of(const Lab& lab);
};

class StepRunner {
 public:
  static constexpr int kDepth = 16;  // steps queued before one is waited for

  StepRunner(Lab& lab, const ModelConfig& config, const Scale& scale);

  // Device memory that Prepare takes.
  int64_t Bytes() const;
  void Prepare();

  // Seconds of one step in which `batch` sequences generate their token at position `context` - 1.
  double DecodeSeconds(int context, int batch);
  // The same in two parts: the sequences get their slots and blocks, then `steps` such steps are queued, at
  // most kDepth, and waited for.
  void StartDecode(int context, int batch);
  double SecondsPerStep(int steps);

  // Seconds in which the prompt tokens [begin, end) of one sequence are taken, the last of them with logits.
  double PrefillSeconds(int begin, int end, int chunk);

  // Bytes that a decode step must read.
  double DecodeBytes(int context, int batch) const;
  // FLOPs that the prompt tokens [begin, end) must take: the self-decoder and what the memory stores of it.
  double PrefillFlops(int begin, int end) const;

 private:
  static CacheGeometry Geometry(const ModelConfig& config, const Scale& scale);

  void FillCache();
  void Run(const StepPlan& plan);
  void Admit(StepPlan& plan, int slot, int tokens);
  void ShuffleBlocks();
  StepPlan DecodePlan(int context, int batch, bool first);
  StepPlan PromptPlan(int start, int count, bool first, bool last);

  Lab& lab_;
  const ModelConfig config_;
  const Shard shard_;
  const StepLimits limits_;
  const CacheGeometry geometry_;
  std::unique_ptr<Communicator> comm_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<KvCache> cache_;
  kernels::Buffer samples_, draws_;
  std::unique_ptr<Model> model_;
  std::vector<int32_t> blocks_;
  size_t next_block_ = 0;
  StepPlan decode_;  // the step that SecondsPerStep repeats
};

}  // namespace yoio::bench

#endif  // YOIO_BENCH_STEP_RUNNER_H_
