// The samplers of several ranks, each with a part of the vocabulary, against one that has all of it: the same
// tokens and the same log-probabilities, bit by bit.
#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "engine/model/activations.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "tests/support/one_slot_sampler.h"
#include "tests/support/random.h"
#include "tests/support/random_sampling.h"
#include "tests/support/spawn_ranks.h"

namespace yoio {
namespace {

using test::Greedy;
using test::Plain;
using test::PlanOf;
using test::Random;
using test::RandomStep;
using test::Row;
using One = test::OneSlotSampler;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename T>
T Value(absl::StatusOr<T> value) {
  YOIO_CHECK(value.ok()) << value.status().ToString();
  return *std::move(value);
}

// Counts what all ranks together ask of it.
struct Traffic {
  std::atomic<int> broadcasts = 0;
  std::atomic<int> gathers = 0;
  std::atomic<size_t> gathered_bytes = 0;  // sent by ranks
};

class CountingCommunicator final : public Communicator {
 public:
  CountingCommunicator(std::unique_ptr<Communicator> inner, Traffic& traffic)
      : inner_(std::move(inner)), traffic_(traffic) {}

  int rank() const override { return inner_->rank(); }
  int world() const override { return inner_->world(); }
  absl::Status Broadcast(std::span<std::byte> data, int root, kernels::Stream& stream) override {
    ++traffic_.broadcasts;
    return inner_->Broadcast(data, root, stream);
  }
  absl::Status AllReduce(void* data, size_t count, kernels::DType type, kernels::Stream& stream) override {
    return inner_->AllReduce(data, count, type, stream);
  }
  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                         kernels::Stream& stream) override {
    ++traffic_.gathers;
    traffic_.gathered_bytes += mine.size();
    return inner_->AllGather(mine, all, stream);
  }
  absl::Status health() override { return inner_->health(); }
  void Abort(absl::Status status) override { inner_->Abort(std::move(status)); }

 private:
  const std::unique_ptr<Communicator> inner_;
  Traffic& traffic_;
};

// A rank a thread, on CPUs.
class SamplerGroup {
 public:
  SamplerGroup(int world, int vocab, int max_sequences, int max_output_rows = 8)
      : vocab_(vocab), backend_(Value(kernels::MakeBackend(kernels::DeviceKind::kCpu, 0))), ranks_(world) {
    const std::vector<kernels::Backend*> backends(world, backend_.get());
    for (auto& comm : Value(MakeCommunicators({.world = world, .num_ranks = world}, backends))) {
      comms_.push_back(std::make_unique<CountingCommunicator>(std::move(comm), traffic_));
    }
    ModelConfig config;
    config.vocab_size = vocab;
    config.num_attention_heads = config.num_key_value_heads = config.intermediate_size = world;
    for (int rank = 0; rank < world; ++rank) {
      Rank& r = ranks_[rank];
      r.shard = Value(Shard::Make(config, rank, world));
      r.stream = Value(backend_->NewStream(1));
      r.sampler = Value(Sampler::Create({.backend = backend_.get(),
                                         .stream = r.stream.get(),
                                         .comm = comms_[rank].get(),
                                         .shard = r.shard,
                                         .vocab = vocab,
                                         .max_sequences = max_sequences,
                                         .max_output_rows = max_output_rows}));
      r.step = Value(r.sampler->NewStep());
    }
  }

  // `logits` is [num_rows, vocab].
  StepResult Run(const StepPlan& plan, const std::vector<float>& logits, int num_rows) {
    const absl::Status status = test::SpawnRanks(comms_, [&](Communicator& comm) {
      return RunRank(plan, Columns(logits, ranks_[comm.rank()].shard), num_rows, ranks_[comm.rank()]);
    });
    EXPECT_TRUE(status.ok()) << status.ToString();
    for (const Rank& rank : ranks_) EXPECT_EQ(rank.ids, ranks_[0].ids) << "rank " << rank.shard.rank;
    return Sampler::Take(plan, ranks_[0].step, ranks_[0].ids.data());
  }

  const Traffic& traffic() const { return traffic_; }
  const Shard& shard(int rank) const { return ranks_[rank].shard; }

 private:
  struct Rank {
    Shard shard;
    std::unique_ptr<kernels::Stream> stream;
    std::unique_ptr<Sampler> sampler;
    Sampler::Step step;
    std::vector<int32_t> ids;  // of the last step
  };

  // The columns of a rank, with NaN behind them.
  std::vector<float> Columns(const std::vector<float>& logits, const Shard& shard) const {
    const size_t rows = logits.size() / vocab_;
    std::vector<float> part(rows * shard.vocab_stride, kNan);
    for (size_t row = 0; row < rows; ++row) {
      std::copy_n(logits.begin() + row * vocab_ + shard.vocab_begin, shard.vocab,
                  part.begin() + row * shard.vocab_stride);
    }
    return part;
  }

  static absl::Status RunRank(const StepPlan& plan, const std::vector<float>& part, int num_rows,
                              Rank& rank) {
    rank.ids.assign(plan.samples.size(), -7);
    YOIO_RETURN_IF_ERROR(rank.sampler->Begin(plan, rank.step));
    for (int row = 0; row < num_rows; row += kLogitsTile) {
      const int count = std::min(kLogitsTile, num_rows - row);
      YOIO_RETURN_IF_ERROR(
          rank.sampler->Read(row, count, part.data() + row * rank.shard.vocab_stride, rank.ids.data()));
    }
    return rank.sampler->End(rank.step, rank.ids.data());
  }

  const int vocab_;
  const std::unique_ptr<kernels::Backend> backend_;
  Traffic traffic_;
  std::vector<std::unique_ptr<Communicator>> comms_;
  std::vector<Rank> ranks_;
};

// Bell-shaped; some with few distinct values, some with infinities, some with a NaN.
std::vector<float> RandomLogits(Random& random, int num_rows, int vocab) {
  std::vector<float> logits = random.Normals(size_t(num_rows) * vocab, 4.0f);
  for (int row = 0; row < num_rows; ++row) {
    float* begin = logits.data() + size_t(row) * vocab;
    const int kind = random.Below(12);
    for (int id = 0; id < vocab && kind == 0; ++id)
      begin[id] = static_cast<float>(static_cast<int>(begin[id]));
    if (kind == 1) begin[random.Below(vocab)] = begin[random.Below(vocab)] = kInfinity;
    if (kind == 2) std::fill(begin, begin + vocab / 2, -kInfinity);
    if (kind == 3) begin[random.Below(vocab)] = kNan;
  }
  return logits;
}

TEST(SamplerPartsTest, DrawAndScoreAsTheWholeDoes) {
  constexpr int kSlots = 100, kSteps = 8, kRows = kSlots + 10;  // two tiles, the first with many samples
  for (const int vocab : {5, 37, 1003}) {
    SamplerGroup whole(1, vocab, kSlots, kRows);
    std::vector<std::unique_ptr<SamplerGroup>> groups;
    for (const int world : {2, 3, 4, 8}) {
      groups.push_back(std::make_unique<SamplerGroup>(world, vocab, kSlots, kRows));
    }
    Random random(vocab);
    for (int step = 0; step < kSteps; ++step) {
      const StepPlan plan = RandomStep(random, step, vocab, kSlots);
      const std::vector<float> logits = RandomLogits(random, kRows, vocab);
      const StepResult expected = whole.Run(plan, logits, kRows);
      for (const auto& group : groups) {
        SCOPED_TRACE(testing::Message()
                     << "world " << group->shard(0).world << ", vocabulary " << vocab << ", step " << step);
        test::ExpectEqual(group->Run(plan, logits, kRows), expected);
      }
    }
    EXPECT_EQ(whole.traffic().broadcasts + whole.traffic().gathers, 0) << "one rank has nobody to ask";
  }
}

// Ids on both sides of every border, and the last ones.
TEST(SamplerPartsTest, BiasesAndBansAtTheBordersOfParts) {
  constexpr int kVocab = 37;
  SamplerGroup group(3, kVocab, 1);
  ASSERT_EQ(group.shard(1).vocab_begin, 16);
  ASSERT_EQ(group.shard(2).vocab, kVocab - 32);
  for (const int32_t id : {0, 15, 16, 31, 32, 36}) {
    SlotAdmission admission = One::Admission(Greedy());
    admission.sampling.logit_bias = {{id, 2.0f}};
    admission.stop_ids = {id};
    admission.min_tokens = 1;
    std::vector<float> logits(kVocab, -1.0f);
    logits[20] = 0.5f;
    EXPECT_EQ(group.Run(PlanOf({Row(0)}, {admission}), logits, 1).samples[0].record.id, 20) << id;
    EXPECT_EQ(group.Run(PlanOf({Row(1)}), logits, 1).samples[0].record.id, id);
  }
}

TEST(SamplerPartsTest, EveryRankKnowsWhatWasOutput) {
  constexpr int kVocab = 37;
  for (const int top_k : {0, 30}) {  // drawn by all ranks, drawn by rank 0
    SlotAdmission admission = One::Admission(Plain());
    admission.sampling.temperature = 1e-6f;
    admission.sampling.top_k = top_k;
    admission.sampling.frequency_penalty = 1.0f;
    admission.output_ids = {36, 17};
    std::vector<float> logits(kVocab, -9.0f);
    logits[3] = 2.0f;
    logits[17] = 2.5f;
    logits[36] = 2.75f;
    SamplerGroup group(3, kVocab, 1);
    StepPlan plan = PlanOf({Row(0)}, {admission});
    for (const int32_t id : {3, 36, 17, 3, 36, 17}) {
      EXPECT_EQ(group.Run(plan, logits, 1).samples[0].record.id, id);
      plan.admitted.clear();
    }
  }
}

TEST(SamplerPartsTest, PlainRowsExchangeOneCandidateAPart) {
  constexpr int kVocab = 1000, kSlots = 5;
  for (const SamplingParams& sampling : {Greedy(), Plain()}) {
    SamplerGroup group(4, kVocab, kSlots);
    StepPlan plan;
    for (int slot = 0; slot < kSlots; ++slot) {
      plan.admitted.push_back(One::Admission(sampling));
      plan.admitted.back().slot = slot;
      plan.admitted.back().sampling.presence_penalty = 1.0f;
      plan.samples.push_back(Row(0, 0, slot));
      plan.samples.back().output_row = slot;
    }
    Random random(3);
    group.Run(plan, RandomLogits(random, kSlots, kVocab), kSlots);
    EXPECT_EQ(group.traffic().broadcasts, 0);
    EXPECT_EQ(group.traffic().gathers, 4) << "one of each rank";
    EXPECT_EQ(group.traffic().gathered_bytes, 4 * kSlots * sizeof(kernels::Candidate));
  }
}

TEST(SamplerPartsTest, OnlyTheRowsThatNeedItAreCollected) {
  constexpr int kVocab = 1000, kSlots = 5;
  SamplerGroup group(4, kVocab, kSlots);
  StepPlan plan;
  for (int slot = 0; slot < kSlots; ++slot) {
    plan.admitted.push_back(One::Admission(Plain()));
    plan.admitted.back().slot = slot;
    plan.samples.push_back(Row(0, 0, slot));
    plan.samples.back().output_row = slot;
  }
  plan.admitted[1].sampling.top_k = 5;
  plan.admitted[3].sampling.top_p = 0.5f;
  plan.admitted[3].sampling.logit_bias = {{3, 1.0f}};
  plan.samples[1].logprob = true;
  plan.samples[4].logprob = true;
  Random random(5);
  group.Run(plan, RandomLogits(random, kSlots, kVocab), kSlots);
  EXPECT_EQ(group.traffic().broadcasts, 4);
  const size_t row = group.shard(0).vocab_stride * sizeof(float);
  EXPECT_EQ(group.traffic().gathered_bytes, 4 * (kSlots * sizeof(kernels::Candidate) + 3 * row))
      << "1 and 4 as they are, 3 adjusted";
}

}  // namespace
}  // namespace yoio
