#include "engine/registry.h"

#include <memory>
#include <string>
#include <thread>

#include "engine/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

std::shared_ptr<LiveRequest> Live(const std::string& id, const std::string& tenant = "default") {
  auto live = std::make_shared<LiveRequest>();
  live->request.id = id;
  live->request.tenant = tenant;
  return live;
}

TEST(RegistryTest, AnIdIsTakenUntilItIsRemoved) {
  Registry registry;
  const auto live = Live("a");
  ASSERT_TRUE(registry.Add(live).ok());
  const absl::Status again = registry.Add(Live("a"));
  EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(registry.Find("default", "a"), live) << "the first one is untouched";
  registry.Remove(*live);
  EXPECT_EQ(registry.Find("default", "a"), nullptr);
  EXPECT_TRUE(registry.Add(Live("a")).ok());
}

TEST(RegistryTest, TenantsDoNotSeeEachOther) {
  Registry registry;
  const auto mine = Live("a", "me"), yours = Live("a", "you");
  ASSERT_TRUE(registry.Add(mine).ok());
  EXPECT_EQ(registry.Find("you", "a"), nullptr);
  ASSERT_TRUE(registry.Add(yours).ok());
  EXPECT_THAT(registry.All(), testing::UnorderedElementsAre(mine, yours));
  registry.Remove(*mine);
  EXPECT_EQ(registry.Find("you", "a"), yours);
}

TEST(RegistryTest, ClosedItRepeatsTheFirstReason) {
  Registry registry;
  const auto live = Live("a");
  ASSERT_TRUE(registry.Add(live).ok());
  EXPECT_FALSE(registry.closed());
  registry.Close(WithReason(absl::StatusCode::kUnavailable, kReasonEngineFailed, "failed"));
  registry.Close(WithReason(absl::StatusCode::kUnavailable, kReasonDraining, "draining"));
  EXPECT_TRUE(registry.closed());
  EXPECT_EQ(ReasonOf(registry.Add(Live("b"))), kReasonEngineFailed);
  EXPECT_EQ(registry.Find("default", "a"), live) << "those that live are still there";
}

TEST(RegistryTest, WaitsUntilNothingLives) {
  Registry registry;
  EXPECT_TRUE(registry.WaitUntilEmpty(Clock::now())) << "empty from the start";
  const auto live = Live("a");
  ASSERT_TRUE(registry.Add(live).ok());
  EXPECT_FALSE(registry.WaitUntilEmpty(Clock::now() + std::chrono::milliseconds(1)));
  std::thread remover([&] { registry.Remove(*live); });
  EXPECT_TRUE(registry.WaitUntilEmpty(TimePoint::max()));
  remover.join();
}

}  // namespace
}  // namespace yoio
