// The samplers of all ranks of a group, each on a thread of its own with its part of every row of logits.
#ifndef YOIO_TESTS_SUPPORT_SAMPLER_GROUP_H_
#define YOIO_TESTS_SUPPORT_SAMPLER_GROUP_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "engine/model/activations.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "tests/support/spawn_ranks.h"

namespace yoio::test {

// What all ranks together ask of their communicators.
struct Traffic {
  std::atomic<int> broadcasts = 0;
  std::atomic<int> gathers = 0;
  std::atomic<size_t> gathered_bytes = 0;  // given by ranks
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

// A plan and the logits of its output rows, [num_rows, vocab].
struct SamplerStep {
  StepPlan plan;
  std::vector<float> logits;
  int num_rows;
};

// Ranks on CPUs of one machine, or with a GPU each.
class SamplerGroup {
 public:
  SamplerGroup(int world, int vocab, int max_sequences,
               kernels::DeviceKind device = kernels::DeviceKind::kCpu)
      : world_(world), vocab_(vocab), max_sequences_(max_sequences) {
    GroupOptions options{.world = world, .num_ranks = world, .ticket = {}, .host = {}};
    std::unique_ptr<Rendezvous> rendezvous;
    std::vector<kernels::Backend*> backends;
    for (int rank = 0; rank < world; ++rank) {
      const int index = device == kernels::DeviceKind::kCuda ? rank : 0;
      backends_.push_back(Value(kernels::MakeBackend(device, index)));
      backends.push_back(backends_.back().get());
    }
    if (device == kernels::DeviceKind::kCuda) {
      options.kind = CommunicatorKind::kNccl;
      rendezvous = Value(MakeRendezvous(options.kind, ""));
      options.ticket = rendezvous->ticket();
    }
    for (std::unique_ptr<Communicator>& comm : Value(MakeCommunicators(options, backends))) {
      comms_.push_back(std::make_unique<CountingCommunicator>(std::move(comm), traffic_));
    }
  }

  // Begins anew and runs the steps one after another. All ranks know the same ids after each of them.
  std::vector<StepResult> Run(const std::vector<SamplerStep>& steps) {
    std::vector<std::vector<std::vector<int32_t>>> ids(world_);  // by rank, by step
    std::vector<StepResult> results;
    const absl::Status status = SpawnRanks(
        comms_, [&](Communicator& comm) { return RunRank(steps, comm, ids[comm.rank()], results); });
    EXPECT_TRUE(status.ok()) << status.ToString();
    for (int rank = 1; rank < world_; ++rank) EXPECT_EQ(ids[rank], ids[0]) << "rank " << rank;
    return results;
  }

  Shard ShardOf(int rank) const {
    ModelConfig config;
    config.vocab_size = vocab_;
    config.num_attention_heads = config.num_key_value_heads = config.intermediate_size = world_;
    return Value(Shard::Make(config, rank, world_));
  }
  const Traffic& traffic() const { return traffic_; }

 private:
  template <typename T>
  static T Value(absl::StatusOr<T> value) {
    YOIO_CHECK(value.ok()) << value.status().ToString();
    return *std::move(value);
  }

  // The columns of a rank, with NaN behind them.
  std::vector<float> Columns(const std::vector<float>& logits, const Shard& shard) const {
    const size_t rows = logits.size() / vocab_;
    std::vector<float> part(rows * shard.vocab_stride, std::numeric_limits<float>::quiet_NaN());
    for (size_t row = 0; row < rows; ++row) {
      std::copy_n(logits.begin() + row * vocab_ + shard.vocab_begin, shard.vocab,
                  part.begin() + row * shard.vocab_stride);
    }
    return part;
  }

  // `results`: rank 0's.
  absl::Status RunRank(const std::vector<SamplerStep>& steps, Communicator& comm,
                       std::vector<std::vector<int32_t>>& ids, std::vector<StepResult>& results) {
    kernels::Backend& backend = *backends_[comm.rank()];
    YOIO_ASSIGN_OR_RETURN(const std::unique_ptr<kernels::Stream> stream, backend.NewStream(1));
    const Shard shard = ShardOf(comm.rank());
    YOIO_ASSIGN_OR_RETURN(const std::unique_ptr<Sampler> sampler,
                          Sampler::Create({.backend = &backend,
                                           .stream = stream.get(),
                                           .comm = &comm,
                                           .shard = shard,
                                           .vocab = vocab_,
                                           .max_sequences = max_sequences_,
                                           .max_output_rows = max_sequences_ + 10}));
    YOIO_ASSIGN_OR_RETURN(Sampler::Step state, sampler->NewStep());
    for (const SamplerStep& step : steps) {
      const std::vector<float> part = Columns(step.logits, shard);
      YOIO_ASSIGN_OR_RETURN(const kernels::Buffer logits, backend.Allocate(part.size() * sizeof(float)));
      const size_t ids_bytes = step.plan.samples.size() * sizeof(int32_t);
      YOIO_ASSIGN_OR_RETURN(const kernels::Buffer drawn, backend.Allocate(ids_bytes));
      backend.CopyToDevice(logits.data(), part.data(), part.size() * sizeof(float), *stream);
      backend.Fill(drawn.data(), 0xf9, ids_bytes, *stream);
      YOIO_RETURN_IF_ERROR(sampler->Begin(step.plan, state));
      for (int row = 0; row < step.num_rows; row += kLogitsTile) {
        YOIO_RETURN_IF_ERROR(sampler->Read(row, std::min(kLogitsTile, step.num_rows - row),
                                           logits.As<float>() + int64_t{row} * shard.vocab_stride,
                                           drawn.As<int32_t>()));
      }
      YOIO_RETURN_IF_ERROR(sampler->End(state, drawn.As<int32_t>()));
      ids.emplace_back(step.plan.samples.size());
      backend.CopyToHost(ids.back().data(), drawn.data(), ids_bytes, *stream);
      YOIO_RETURN_IF_ERROR(backend.Synchronize(*stream));
      if (comm.rank() == 0) results.push_back(Sampler::Take(step.plan, state, ids.back().data()));
    }
    return absl::OkStatus();
  }

  const int world_;
  const int vocab_;
  const int max_sequences_;
  std::vector<std::unique_ptr<kernels::Backend>> backends_;  // by rank
  Traffic traffic_;
  std::vector<std::unique_ptr<Communicator>> comms_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_SAMPLER_GROUP_H_
