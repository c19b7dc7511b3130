// The model of all ranks, driven step by step without an engine: what goes in is a plan, what comes out are
// logits.
#ifndef YOIO_TESTS_PARITY_MODEL_HARNESS_H_
#define YOIO_TESTS_PARITY_MODEL_HARNESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/comm/communicator.h"
#include "engine/model/model.h"
#include "engine/step_plan.h"
#include "kernels/backend.h"
#include "tests/support/rank_threads.h"

namespace yoio::test {

struct HarnessOptions {
  std::string dir;
  kernels::DeviceKind device = kernels::DeviceKind::kCpu;
  CommunicatorKind communicator = CommunicatorKind::kLocal;
  bool dense = false;  // index_topk 0
  int world = 1;       // on GPUs, rank r has the r-th
  bool index_by_rows = false;
  int min_tiled_tokens = 0;  // as ModelParts
  int threads = 1;           // per rank
  int max_step_tokens = 512;
  int max_output_rows = 512;
  int max_sequences = 4;
  int max_tokens = 512;  // of one sequence
  int num_snapshots = 0;
  bool swaps = false;  // the host has a place for every sequence
};

// Consecutive tokens of one sequence in a step.
struct Piece {
  int32_t slot;
  int32_t start;  // position of the first
  std::vector<int32_t> ids;
  std::vector<int32_t> outputs;  // offsets into ids whose logits are wanted, ascending
  bool generated = false;
  int32_t global_from = 0;  // as StepSequence
};

// What one step computed. Rows are in the order of the pieces.
struct StepOutput {
  std::vector<float> logits;                    // [rows, vocab], the shards of all ranks side by side
  std::vector<std::vector<int32_t>> positions;  // [rows] selected positions, empty when dense
  // [rows, index dim], as rank 0 has them: of all rows when it indexes alone and they are a tile at most;
  // else empty.
  std::vector<float> queries;
};

// All ranks are threads of this process.
class ModelHarness {
 public:
  static absl::StatusOr<std::unique_ptr<ModelHarness>> Create(const HarnessOptions& options);
  ~ModelHarness();

  // Prompt pieces must come before generated ones. Blocks are handed out so that no sequence's are
  // consecutive. INTERNAL when the ranks' index sets are not the same, bit for bit.
  absl::StatusOr<StepOutput> Run(const std::vector<Piece>& pieces);

  // What the next step does first: forgets the slot's sequence, of which a place on the host, one for each
  // slot, may keep what was cached; or brings such a sequence back, to any slot.
  void Release(int32_t slot);
  void SwapOut(int32_t slot, int32_t place);
  void SwapIn(int32_t place, int32_t slot);
  // Also: a sequence begins anew in `slot`, with the first `shared_blocks` of the one in `from`; a ring goes
  // to a snapshot, or comes from one.
  void Admit(int32_t slot, int32_t from = 0, int32_t shared_blocks = 0);
  void SaveRing(int32_t slot, int32_t snapshot);
  void RestoreRing(int32_t snapshot, int32_t slot);

  // Fills the slot's ring with NaN at once, on all ranks.
  void PoisonRing(int32_t slot);

  // The index keys of the first `length` tokens of a sequence, [length, index dim], as rank 0 has them.
  std::vector<float> IndexKeys(int32_t slot, int length);

  const ModelConfig& config() const { return config_; }

 private:
  // Created, used and destroyed on the rank's thread.
  struct Rank {
    Shard shard;
    std::unique_ptr<kernels::Stream> stream;
    std::unique_ptr<Weights> weights;
    std::unique_ptr<KvCache> cache;
    std::unique_ptr<Model> model;
    std::vector<float> logits;           // one tile
    std::vector<int32_t> counts, slots;  // of the last step's index
  };

  explicit ModelHarness(const HarnessOptions& options) : options_(options), threads_(options.world) {}
  absl::Status Meet();
  absl::Status Load(const Checkpoint& checkpoint, int number);
  absl::Status OnRanks(const std::function<absl::Status(int rank)>& body);
  StepPlan MakePlan(const std::vector<Piece>& pieces);
  absl::Status RunRank(const StepPlan& plan, int number, StepOutput& output);
  absl::Status ReadIndex(int num_rows, int number);
  std::vector<float> ReadActivations(int number, const kernels::Activation* from, size_t count);
  absl::Status CompareIndexes() const;
  std::vector<int32_t> Positions(int row) const;

  const HarnessOptions options_;
  ModelConfig config_;
  std::vector<std::unique_ptr<kernels::Backend>> backends_;  // by rank
  std::vector<std::unique_ptr<Communicator>> comms_;         // by rank
  std::vector<Rank> ranks_;
  // The i-th block that is given to a slot, or to a place on the host.
  int32_t BlockOf(int32_t i, int32_t slot) const { return i * options_.max_sequences + slot; }

  std::vector<std::vector<int32_t>> tables_;  // [slots]
  std::vector<int32_t> blocks_sent_;          // [slots] of its table
  std::vector<int32_t> blocks_kept_;          // [places on the host]
  StepPlan next_;                             // what the next plan begins with
  int64_t step_ = 0;
  RankThreads threads_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_PARITY_MODEL_HARNESS_H_
