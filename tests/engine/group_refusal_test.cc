// What keeps an engine of several processes from starting: a clear error on both sides, soon.
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "engine/follower.h"
#include "engine/group_messages.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/group_harness.h"

namespace yoio {
namespace {

using test::FollowerOptions;
using test::FollowerThread;
using test::Generate;
using test::GroupOptionsFor;
using test::IdsRequest;
using test::MakeEngine;
using test::MemoryDoorway;
using testing::HasSubstr;

// For a status that needs no wait, on a busy machine.
constexpr Duration kSoon = std::chrono::seconds(20);

// Expects that the leader's start and the follower both end with `code`, soon, in words that hold `what`.
void ExpectBothRefuse(EngineOptions leader, const EngineOptions& follower, absl::StatusCode code,
                      const std::string& what) {
  MemoryDoorway doorway;
  leader.doorway = &doorway;
  const TimePoint begin = Clock::now();
  FollowerThread thread(doorway, follower);
  const absl::Status refusal = Engine::Create(leader).status();
  EXPECT_EQ(refusal.code(), code) << refusal;
  EXPECT_THAT(std::string(refusal.message()), HasSubstr(what));
  const absl::Status end = thread.Join();
  EXPECT_EQ(end.code(), code) << end;
  EXPECT_THAT(std::string(end.message()), HasSubstr(what));
  EXPECT_FALSE(thread.ready());
  EXPECT_LT(Clock::now() - begin, kSoon);
}

TEST(GroupRefusalTest, AnotherNumberOfNodes) {
  const EngineOptions options = GroupOptionsFor(2, 2);
  EngineOptions follower = FollowerOptions(options, 1);
  follower.nnodes = 4;
  ExpectBothRefuse(options, follower, absl::StatusCode::kInvalidArgument,
                   "--nnodes of node 1 is 4, but that of the leader is 2");
}

TEST(GroupRefusalTest, AnotherNumberOfRanks) {
  const EngineOptions options = GroupOptionsFor(2, 1);
  EngineOptions follower = FollowerOptions(options, 1);
  follower.tensor_parallel_size = 4;
  ExpectBothRefuse(options, follower, absl::StatusCode::kInvalidArgument,
                   "--tensor-parallel-size of node 1 is 4, but that of the leader is 2");
}

TEST(GroupRefusalTest, AnotherVersion) {
  const EngineOptions options = GroupOptionsFor(2, 1);
  EngineOptions follower = FollowerOptions(options, 1);
  follower.version = "1.2.4";
  ExpectBothRefuse(options, follower, absl::StatusCode::kInvalidArgument,
                   "version of node 1 is 1.2.4, but that of the leader is 1.2.3");
}

TEST(GroupRefusalTest, AnotherModel) {
  const EngineOptions options = GroupOptionsFor(2, 1);
  EngineOptions follower = FollowerOptions(options, 1);
  follower.model_dir = YOIO_SOURCE_DIR "/tests/golden/micro_gqa";
  ExpectBothRefuse(options, follower, absl::StatusCode::kInvalidArgument, "config.json");
}

TEST(GroupRefusalTest, WeightsThatOnlyTheLeaderHas) {
  const EngineOptions options = GroupOptionsFor(2, 1);
  EngineOptions follower = FollowerOptions(options, 1);
  follower.load_format = LoadFormat::kDummy;
  ExpectBothRefuse(options, follower, absl::StatusCode::kInvalidArgument,
                   "the fingerprint of --model of node 1 is dummy");
}

TEST(GroupRefusalTest, AFollowerThatCannotEvenJoin) {
  const EngineOptions options = GroupOptionsFor(2, 1);
  EngineOptions follower = FollowerOptions(options, 1);
  follower.model_dir = "/nowhere";
  ExpectBothRefuse(options, follower, absl::StatusCode::kNotFound, "/nowhere");
}

TEST(GroupRefusalTest, AWorldThatDoesNotDivideTheHeads) {
  EngineOptions options = GroupOptionsFor(3, 1);
  EXPECT_THAT(std::string(Engine::Create(options).status().message()), HasSubstr("num_attention_heads"));
  MemoryDoorway doorway;
  FollowerThread follower(doorway, FollowerOptions(options, 1));
  EXPECT_THAT(std::string(follower.Join().message()), HasSubstr("num_attention_heads"));
}

TEST(GroupRefusalTest, ALeaderThatSaysNothing) {
  EngineOptions options = FollowerOptions(GroupOptionsFor(2, 1), 1);
  options.load_timeout = std::chrono::milliseconds(100);
  MemoryDoorway doorway;
  FollowerThread follower(doorway, options);
  EXPECT_EQ(follower.Join().code(), absl::StatusCode::kDeadlineExceeded);
}

// Somebody at the doorway who says what the test tells him to.
class Knocker {
 public:
  explicit Knocker(MemoryDoorway& doorway) : pipe_(doorway.Knock()) {}

  void Say(std::string bytes) { pipe_->Send(std::move(bytes)); }
  // What the pipe has broken with.
  absl::Status Answer() { return pipe_->Receive(Clock::now() + kSoon).status(); }

 private:
  const std::unique_ptr<Pipe> pipe_;
};

// What a follower of the group would say.
Hello HelloFor(const EngineOptions& options) {
  MemoryDoorway doorway;
  FollowerThread follower(doorway, FollowerOptions(options, 1));
  const auto pipe = *doorway.Accept(Clock::now() + kSoon);
  return std::get<Hello>(*DeserializeMessage(*pipe->Receive(Clock::now() + kSoon)));
}

TEST(GroupRefusalTest, NodesThatDoNotCome) {
  EngineOptions options = GroupOptionsFor(4, 1);
  Hello second = HelloFor(options);
  second.node_rank = 2;
  options.load_timeout = std::chrono::milliseconds(400);
  MemoryDoorway doorway;
  Knocker knocker(doorway);
  knocker.Say(SerializeMessage(second));
  options.doorway = &doorway;
  const absl::Status status = Engine::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("have not come within --load-timeout: 1, 3"));
  EXPECT_EQ(knocker.Answer().code(), absl::StatusCode::kUnavailable) << "the leader has gone";
}

TEST(GroupRefusalTest, NodesThatDoNotLoad) {
  EngineOptions options = GroupOptionsFor(2, 1);
  const Hello hello = HelloFor(options);
  options.load_timeout = std::chrono::milliseconds(400);
  MemoryDoorway doorway;
  Knocker knocker(doorway);
  knocker.Say(SerializeMessage(hello));  // and no more
  options.doorway = &doorway;
  EXPECT_EQ(Engine::Create(options).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(GroupRefusalTest, WhatAFollowerMaySay) {
  EngineOptions options = GroupOptionsFor(2, 1);
  const Hello fits = HelloFor(options);
  const auto refusal = [&](std::string bytes) {
    MemoryDoorway doorway;
    Knocker knocker(doorway);
    knocker.Say(std::move(bytes));
    EngineOptions leader = options;
    leader.doorway = &doorway;
    const absl::Status status = Engine::Create(leader).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(knocker.Answer(), status);
    return std::string(status.message());
  };
  const auto with = [&](const std::function<void(Hello&)>& change) {
    Hello hello = fits;
    change(hello);
    return refusal(SerializeMessage(hello));
  };
  EXPECT_THAT(with([](Hello& hello) { hello.model = "0123456789abcdef"; }), HasSubstr("0123456789abcdef"));
  EXPECT_THAT(with([](Hello& hello) { hello.device = kernels::DeviceKind::kCuda; }),
              HasSubstr("the device of node 1 is cuda, but that of the leader is cpu"));
  EXPECT_THAT(with([](Hello& hello) { hello.node_rank = 2; }), HasSubstr("expected 1 to 1"));
  EXPECT_THAT(with([](Hello& hello) { hello.node_rank = 0; }), HasSubstr("expected 1 to 1"));
  EXPECT_THAT(with([](Hello& hello) { hello.available_bytes.push_back(1); }), HasSubstr("number of ranks"));
  EXPECT_THAT(refusal("knock, knock"), HasSubstr("all nodes must run the same program"));
  EXPECT_THAT(refusal(SerializeMessage(Bye{})), HasSubstr("no Hello"));
}

TEST(GroupRefusalTest, AFollowerWithTooLittleMemoryIsNamed) {
  EngineOptions options = GroupOptionsFor(2, 1);
  Hello hello = HelloFor(options);
  hello.available_bytes = {1000};
  options.kv_cache_bytes = 0;
  MemoryDoorway doorway;
  Knocker knocker(doorway);
  knocker.Say(SerializeMessage(hello));
  options.doorway = &doorway;
  const absl::Status status = Engine::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 of 2"));
  EXPECT_EQ(knocker.Answer().code(), absl::StatusCode::kUnavailable);
}

TEST(GroupRefusalTest, PlacesThatAreTaken) {
  Mutex mutex;
  CondVar changed;
  std::vector<std::string> refusals;
  EngineOptions options = GroupOptionsFor(4, 1);
  const Hello hello = HelloFor(options);
  MemoryDoorway doorway;
  options.doorway = &doorway;
  options.on_refusal = [&](const absl::Status& status) {
    MutexLock lock(mutex);
    refusals.emplace_back(status.message());
    changed.NotifyAll();
  };
  absl::StatusOr<std::unique_ptr<Engine>> engine = absl::UnknownError("");
  std::thread start([&] { engine = Engine::Create(options); });

  // Two for one place: the one that is heard first waits for the others, the other goes away.
  FollowerThread one(doorway, FollowerOptions(options, 1)), other(doorway, FollowerOptions(options, 1));
  {
    MutexLock lock(mutex);
    while (refusals.empty()) changed.Wait(mutex);
    EXPECT_THAT(refusals[0], HasSubstr("--node-rank 1 has come before"));
  }
  FollowerThread second(doorway, FollowerOptions(options, 2));
  FollowerThread third(doorway, FollowerOptions(options, 3));
  start.join();
  ASSERT_TRUE(engine.ok()) << engine.status();

  // And later: late ones, strange ones, those who talk nonsense.
  Knocker late(doorway), strange(doorway), nonsense(doorway);
  late.Say(SerializeMessage(hello));
  Hello odd = hello;
  odd.version = "2";
  odd.node_rank = 9;
  strange.Say(SerializeMessage(odd));
  nonsense.Say("good morning");
  EXPECT_EQ(late.Answer().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(strange.Answer().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(nonsense.Answer().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Generate(**engine, IdsRequest("x", 40, 10)).choices[0].tokens.size(), 10u) << "not disturbed";
  engine->reset();
  for (FollowerThread* follower : {&second, &third}) EXPECT_EQ(follower->Join(), absl::OkStatus());
  EXPECT_NE(one.Join().ok(), other.Join().ok());
  const absl::Status away = one.Join().ok() ? other.Join() : one.Join();
  EXPECT_EQ(away.code(), absl::StatusCode::kFailedPrecondition) << away;
  EXPECT_THAT(refusals, testing::SizeIs(4));
}

TEST(GroupRefusalTest, FlagsThatContradictEachOther) {
  const auto error = [](const std::function<void(EngineOptions&)>& set) {
    EngineOptions options = GroupOptionsFor(2, 1);
    set(options);
    const absl::Status status = Engine::Create(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error([](EngineOptions& options) {}), HasSubstr("--followers-listen"));
  EXPECT_THAT(error([](EngineOptions& options) { options.tensor_parallel_size = 1; }),
              HasSubstr("--tensor-parallel-size 1 must be a multiple of --nnodes 2"));
  EXPECT_THAT(error([](EngineOptions& options) { options.nnodes = 0; }), HasSubstr("--nnodes"));
  EXPECT_THAT(error([](EngineOptions& options) { options.node_rank = 2; }), HasSubstr("--node-rank"));
  EXPECT_THAT(error([](EngineOptions& options) { options.communication = Communication::kLocal; }),
              HasSubstr("--communicator local"));
  EXPECT_THAT(error([](EngineOptions& options) { options.communication = Communication::kNccl; }),
              HasSubstr("--communicator nccl"));
}

}  // namespace
}  // namespace yoio
