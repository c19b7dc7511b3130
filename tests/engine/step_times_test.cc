// Where the time of a step goes, on every rank of every process, and what is seen of ranks that hang.
#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "engine/leader.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/group_harness.h"

namespace yoio {
namespace {

using test::FailingBackend;
using test::FollowerOptions;
using test::FollowerThread;
using test::Gate;
using test::GroupOptionsFor;
using test::MemoryDoorway;
using testing::ElementsAre;
using testing::HasSubstr;

// For what happens soon, on a busy machine.
constexpr Duration kSlack = std::chrono::minutes(1);

// Its rank stops in the middle of the index while the gate is closed.
class StoppingBackend final : public FailingBackend {
 public:
  StoppingBackend(std::unique_ptr<kernels::Backend> inner, std::shared_ptr<Gate> gate)
      : FailingBackend(std::move(inner), never_), gate_(std::move(gate)) {}

  void TopK(const kernels::TopKArgs& args, Stream& stream) override {
    gate_->Pass();
    FailingBackend::TopK(args, stream);
  }

 private:
  std::atomic<int> never_{std::numeric_limits<int>::max()};
  const std::shared_ptr<Gate> gate_;
};

Duration Of(const StepTimes& times, StepPhase phase) { return times.phases[static_cast<size_t>(phase)]; }

// The times that a leader tells of. Thread-safe.
class TimesLog {
 public:
  explicit TimesLog(int world) : by_rank_(world) {}

  void Note(int rank, int64_t step, const StepTimes& times) {
    MutexLock lock(mutex_);
    EXPECT_EQ(step, static_cast<int64_t>(by_rank_[rank].size())) << "each rank's in order, and once";
    by_rank_[rank].push_back(times);
    changed_.NotifyAll();
  }
  int64_t count(int rank) {
    MutexLock lock(mutex_);
    return static_cast<int64_t>(by_rank_[rank].size());
  }
  // Of a step that has ended, or will soon.
  StepTimes Await(int rank, int64_t step) {
    MutexLock lock(mutex_);
    const TimePoint deadline = Clock::now() + kSlack;
    auto& times = by_rank_[rank];
    while (static_cast<int64_t>(times.size()) <= step && Clock::now() < deadline) {
      changed_.WaitUntil(mutex_, deadline);
    }
    YOIO_CHECK(static_cast<int64_t>(times.size()) > step) << "rank " << rank;
    return times[step];
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::vector<StepTimes>> by_rank_ ABSL_GUARDED_BY(mutex_);
};

// A leader that is told its steps by the test: one sequence, on CPUs of which rank 0's can be stopped.
class StepTimesTest : public testing::Test {
 protected:
  void Start(const EngineOptions& options) {
    world_ = options.tensor_parallel_size;
    std::vector<std::unique_ptr<kernels::Backend>> backends;
    for (int rank = 0; rank < world_ / options.nnodes; ++rank) {
      backends.push_back(*kernels::MakeBackend(kernels::DeviceKind::kCpu, 0));
    }
    backends[0] = std::make_unique<StoppingBackend>(std::move(backends[0]), gate_);
    auto node = OpenNode(options, Devices(kernels::DeviceKind::kCpu, std::move(backends)));
    ASSERT_TRUE(node.ok()) << node.status();
    node_ = std::make_unique<Node>(*std::move(node));
    log_ = std::make_unique<TimesLog>(world_);
    auto leader = Leader::Create(
        options, *node_,
        [log = log_.get()](int rank, int64_t step, const StepTimes& times) { log->Note(rank, step, times); });
    ASSERT_TRUE(leader.ok()) << leader.status();
    leader_ = *std::move(leader);
  }
  void TearDown() override {
    gate_->Open();
    leader_.reset();
  }

  // The next `count` tokens of the sequence are a step, whose last one draws when `draws`.
  void Submit(int count, bool draws) {
    StepPlan plan;
    plan.step = step_++;
    if (position_ == 0) plan.admitted.push_back(SlotAdmission{});  // of slot 0
    const int blocks = (position_ + count + kernels::kBlockTokens - 1) / kernels::kBlockTokens;
    plan.sequences = {{.slot = 0,
                       .token_begin = 0,
                       .token_count = count,
                       .start_position = position_,
                       .new_block_begin = 0,
                       .new_block_count = blocks - blocks_}};
    for (; blocks_ < blocks; ++blocks_) plan.new_blocks.push_back(blocks_);
    plan.token_ids.resize(count, 7);
    plan.positions.resize(count);
    std::iota(plan.positions.begin(), plan.positions.end(), position_);
    plan.num_prompt_tokens = count;
    position_ += count;
    if (draws) {
      plan.output_tokens = {count - 1};
      plan.samples = {{.output_row = 0,
                       .slot = 0,
                       .sample_index = 0,
                       .output_position = 0,
                       .logprob = false,
                       .top_n = 0}};
    }
    leader_->Submit(std::move(plan));
  }
  void Run(int count, bool draws) {
    Submit(count, draws);
    const auto result = leader_->Wait();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(log_->count(0), result->step + 1) << "rank 0's times come before the result";
  }

  // Waits until `holds` for what the ranks are doing, and returns that.
  std::vector<RankState> AwaitRanks(const std::function<bool(const std::vector<RankState>&)>& holds) {
    const TimePoint deadline = Clock::now() + kSlack;
    std::vector<RankState> ranks = leader_->ranks();
    while (!holds(ranks) && Clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ranks = leader_->ranks();
    }
    EXPECT_TRUE(holds(ranks));
    return ranks;
  }

  std::vector<std::string> LoadPhases() {
    std::vector<std::string> phases;
    TimePoint last{};
    for (const LoadTime& time : leader_->load_times()) {
      phases.push_back(time.phase);
      EXPECT_LE(last, time.begin);
      EXPECT_LE(time.begin, time.end);
      last = time.end;
    }
    return phases;
  }

  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  int world_ = 1;
  std::unique_ptr<Node> node_;
  std::unique_ptr<TimesLog> log_;
  std::unique_ptr<Leader> leader_;
  int64_t step_ = 0;
  int position_ = 0, blocks_ = 0;
};

// `indexes`: whether the rank scores rows of its own in a step that `draws`.
void ExpectPlausible(const StepTimes& times, bool draws, bool indexes, int world) {
  EXPECT_GT(times.total, Duration{0});
  EXPECT_EQ(std::accumulate(times.phases.begin(), times.phases.end(), Duration{0}), times.total);
  for (int i = 0; i < kNumStepPhases; ++i) {
    const auto phase = static_cast<StepPhase>(i);
    const bool index = phase == StepPhase::kIndexScores || phase == StepPhase::kTopK;
    const bool reached = phase <= StepPhase::kSelfDecoder || (draws && (indexes || !index));
    EXPECT_EQ(times.phases[i] > Duration{0}, reached) << NameOf(phase);
  }
  EXPECT_EQ(times.comm_wait > Duration{0}, world > 1);
  EXPECT_LE(times.comm_wait, times.total);
  EXPECT_FALSE(times.recorded) << "a CPU records nothing";
}

struct World {
  int ranks;
  int depth;
  IndexSharding index_sharding;
};

class StepTimesOfWorldTest : public StepTimesTest, public testing::WithParamInterface<World> {};
INSTANTIATE_TEST_SUITE_P(
    Worlds, StepTimesOfWorldTest,
    testing::Values(World{1, 1, IndexSharding::kRank0}, World{1, 2, IndexSharding::kRank0},
                    World{2, 1, IndexSharding::kRank0}, World{2, 2, IndexSharding::kRows},
                    World{4, 1, IndexSharding::kRank0}),
    [](const auto& info) { return absl::StrCat(info.param.ranks, "Depth", info.param.depth); });

TEST_P(StepTimesOfWorldTest, PhasesSumToTheTotal) {
  EngineOptions options = test::MicroOptions();
  options.tensor_parallel_size = GetParam().ranks;
  options.pipeline_depth = GetParam().depth;
  options.index_sharding = GetParam().index_sharding;
  Start(options);
  const std::vector<bool> draws = {false, true, true, false, true};
  for (const bool each : draws) Run(each ? 1 : 50, each);
  for (int rank = 0; rank < GetParam().ranks; ++rank) {
    for (size_t step = 0; step < draws.size(); ++step) {
      SCOPED_TRACE(absl::StrCat("rank ", rank, " step ", step));
      // The only output row is the first rank's.
      ExpectPlausible(log_->Await(rank, static_cast<int64_t>(step)), draws[step], rank == 0,
                      GetParam().ranks);
    }
  }
  if (GetParam().ranks == 1) {
    EXPECT_THAT(LoadPhases(), ElementsAre("weights", "cache"));
  } else {
    EXPECT_THAT(LoadPhases(), ElementsAre("connect", "weights", "cache"));
  }
}

// Several steps at once: each keeps its own times although the next one overwrites them on the device.
TEST_F(StepTimesTest, StepsUnderWayKeepTheirOwn) {
  EngineOptions options = test::MicroOptions();
  options.pipeline_depth = 2;
  Start(options);
  Submit(200, false);
  Submit(1, true);
  for (int step = 0; step < 2; ++step) ASSERT_TRUE(leader_->Wait().ok());
  ExpectPlausible(log_->Await(0, 0), /*draws=*/false, /*indexes=*/false, /*world=*/1);
  ExpectPlausible(log_->Await(0, 1), /*draws=*/true, /*indexes=*/true, /*world=*/1);
}

TEST_F(StepTimesTest, WhoWaitsForASlowRankIsSeenAndMeasured) {
  constexpr Duration kPause = std::chrono::milliseconds(20);
  EngineOptions options = test::MicroOptions();
  options.tensor_parallel_size = 2;
  Start(options);
  Run(50, true);
  gate_->Close();
  Submit(1, true);
  const std::vector<RankState> ranks = AwaitRanks([](const std::vector<RankState>& seen) {
    return seen[0].phase == StepPhase::kTopK && seen[1].collective == Collective::kBroadcast;
  });
  ASSERT_EQ(ranks.size(), 2u);
  for (const RankState& state : ranks) {
    EXPECT_EQ(state.ended_step, 0);
    EXPECT_EQ(state.step, 1);
  }
  EXPECT_EQ(ranks[0].collective, Collective::kNone);
  EXPECT_EQ(ranks[1].phase, StepPhase::kIndexBroadcast);
  std::this_thread::sleep_for(kPause);
  gate_->Open();
  ASSERT_TRUE(leader_->Wait().ok());
  const StepTimes slow = log_->Await(0, 1), waiting = log_->Await(1, 1);
  EXPECT_GE(Of(slow, StepPhase::kTopK), kPause);
  EXPECT_GE(Of(waiting, StepPhase::kIndexBroadcast), kPause);
  EXPECT_GE(waiting.comm_wait, kPause);
  ExpectPlausible(slow, /*draws=*/true, /*indexes=*/true, /*world=*/2);
  ExpectPlausible(waiting, /*draws=*/true, /*indexes=*/false, /*world=*/2);
  AwaitRanks([](const std::vector<RankState>& seen) {
    return seen[0].ended_step == 1 && seen[1].ended_step == 1 && seen[1].collective == Collective::kNone;
  });
}

TEST_F(StepTimesTest, TheEvidenceNamesPhaseAndCollective) {
  EngineOptions options = test::MicroOptions();
  options.tensor_parallel_size = 2;
  options.step_timeout = std::chrono::milliseconds(500);
  Start(options);
  Run(50, true);
  gate_->Close();
  Submit(1, true);
  EXPECT_THAT(
      std::string(leader_->Wait().status().message()),
      HasSubstr("rank 0 of node 0 has ended step 0, is in top_k of step 1; rank 1 of node 0 has ended "
                "step 0, is in index_broadcast of step 1, waits in broadcast"));
  const std::vector<RankState> ranks = leader_->ranks();
  EXPECT_EQ(ranks[0].phase, StepPhase::kTopK) << "it still hangs";
}

TEST_F(StepTimesTest, OfAllProcesses) {
  EngineOptions options = GroupOptionsFor(2, 2);
  MemoryDoorway doorway;
  FollowerThread follower(doorway, FollowerOptions(options, 1));
  options.doorway = &doorway;
  Start(options);
  const std::vector<bool> draws = {false, true, true};
  for (const bool each : draws) Run(each ? 1 : 50, each);
  for (int rank = 0; rank < 4; ++rank) {
    for (size_t step = 0; step < draws.size(); ++step) {
      SCOPED_TRACE(absl::StrCat("rank ", rank, " step ", step));
      ExpectPlausible(log_->Await(rank, static_cast<int64_t>(step)), draws[step], rank == 0, 4);
    }
  }
  const std::vector<RankState> ranks = AwaitRanks([](const std::vector<RankState>& seen) {
    return std::all_of(seen.begin(), seen.end(),
                       [](const RankState& state) { return state.ended_step == 2; });
  });
  ASSERT_EQ(ranks.size(), 4u);
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(ranks[rank].rank, rank);
    EXPECT_EQ(ranks[rank].step, rank < 2 ? 2 : -1) << "of this process";
  }
  EXPECT_THAT(LoadPhases(), ElementsAre("followers", "connect", "weights", "cache"));
  leader_.reset();
  EXPECT_EQ(follower.Join(), absl::OkStatus());
}

}  // namespace
}  // namespace yoio
