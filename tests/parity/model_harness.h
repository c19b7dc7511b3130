// The model of all ranks, driven step by step without an engine: what goes in is a plan, what comes out are
// logits.
#ifndef YOIO_TESTS_PARITY_MODEL_HARNESS_H_
#define YOIO_TESTS_PARITY_MODEL_HARNESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"
#include "engine/model/model.h"
#include "engine/step_plan.h"
#include "kernels/backend.h"

namespace yoio::test {

struct HarnessOptions {
  std::string dir;
  kernels::DeviceKind device = kernels::DeviceKind::kCpu;
  bool dense = false;  // index_topk 0
  int world = 1;
  int threads = 1;  // per rank
  int max_step_tokens = 512;
  int max_output_rows = 512;
  int max_sequences = 4;
  int max_tokens = 512;  // of one sequence
};

// Consecutive tokens of one sequence in a step.
struct Piece {
  int32_t slot;
  int32_t start;  // position of the first
  std::vector<int32_t> ids;
  std::vector<int32_t> outputs;  // offsets into ids whose logits are wanted, ascending
  bool generated = false;
};

// What rank 0 computed in one step. Rows are in the order of the pieces.
struct StepOutput {
  std::vector<float> logits;                    // [rows, vocab]
  std::vector<std::vector<int32_t>> positions;  // [rows] selected positions, empty when dense
};

class ModelHarness {
 public:
  static absl::StatusOr<std::unique_ptr<ModelHarness>> Create(const HarnessOptions& options);

  // Prompt pieces must come before generated ones. Blocks are handed out so that no sequence's are
  // consecutive.
  absl::StatusOr<StepOutput> Run(const std::vector<Piece>& pieces);

  const ModelConfig& config() const { return config_; }

 private:
  struct Rank {
    std::unique_ptr<kernels::Stream> stream;
    std::unique_ptr<Weights> weights;
    std::unique_ptr<KvCache> cache;
    std::unique_ptr<Model> model;
  };

  explicit ModelHarness(const HarnessOptions& options) : options_(options) {}
  StepPlan MakePlan(const std::vector<Piece>& pieces);

  const HarnessOptions options_;
  ModelConfig config_;
  std::unique_ptr<kernels::Backend> backend_;
  std::vector<std::unique_ptr<Communicator>> comms_;
  std::vector<Rank> ranks_;
  std::vector<int32_t> blocks_given_;  // [slots]
  int64_t step_ = 0;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_PARITY_MODEL_HARNESS_H_
