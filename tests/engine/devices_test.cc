#include "engine/devices.h"

#include <string>
#include <vector>

#include "engine/checkpoint/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using kernels::DeviceKind;
using testing::HasSubstr;

struct Choice {
  Communication communication;
  DeviceKind device;
  int ranks;
  int nnodes;

  absl::StatusOr<CommunicatorKind> Made() const {
    EngineOptions options;
    options.communication = communication;
    options.tensor_parallel_size = ranks;
    options.nnodes = nnodes;
    return ChooseCommunicator(options, device);
  }
};

TEST(ChooseCommunicatorTest, WhatWorks) {
  using C = Communication;
  using K = CommunicatorKind;
  const auto made = [](Choice choice) { return *choice.Made(); };
  EXPECT_EQ(made({C::kAuto, DeviceKind::kCpu, 1, 1}), K::kLocal);
  EXPECT_EQ(made({C::kAuto, DeviceKind::kCpu, 4, 1}), K::kLocal);
  EXPECT_EQ(made({C::kAuto, DeviceKind::kCpu, 4, 2}), K::kSocket);
  EXPECT_EQ(made({C::kAuto, DeviceKind::kCuda, 1, 1}), K::kLocal);
  EXPECT_EQ(made({C::kAuto, DeviceKind::kCuda, 2, 1}), K::kNccl);
  EXPECT_EQ(made({C::kAuto, DeviceKind::kCuda, 2, 2}), K::kNccl);
  EXPECT_EQ(made({C::kLocal, DeviceKind::kCpu, 2, 1}), K::kLocal);
  EXPECT_EQ(made({C::kSocket, DeviceKind::kCpu, 2, 1}), K::kSocket);
  EXPECT_EQ(made({C::kLocal, DeviceKind::kCuda, 1, 1}), K::kLocal);
  EXPECT_EQ(made({C::kNccl, DeviceKind::kCuda, 1, 1}), K::kNccl);
}

TEST(ChooseCommunicatorTest, WhatCannot) {
  using C = Communication;
  const auto error = [](Choice choice) {
    const absl::Status status = choice.Made().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error({C::kLocal, DeviceKind::kCpu, 2, 2}), HasSubstr("--nnodes is 2"));
  EXPECT_THAT(error({C::kLocal, DeviceKind::kCuda, 2, 1}), HasSubstr("expected nccl"));
  EXPECT_THAT(error({C::kSocket, DeviceKind::kCuda, 2, 2}), HasSubstr("expected nccl"));
  EXPECT_THAT(error({C::kNccl, DeviceKind::kCpu, 2, 1}), HasSubstr("expected local or socket"));
}

TEST(DevicesTest, RanksOfOneCpuShareItsMemory) {
  EngineOptions options;
  options.device = Device::kCpu;
  options.tensor_parallel_size = 4;
  const ModelConfig config = *ReadModelConfig(YOIO_SOURCE_DIR "/tests/golden/micro", "");
  const auto devices = ChooseDevices(options, config, {.world = 4, .first = 0, .count = 4});
  ASSERT_TRUE(devices.ok()) << devices.status();
  EXPECT_EQ(devices->kind(), DeviceKind::kCpu);
  const auto backends = devices->OfRanks(4);
  EXPECT_THAT(backends, testing::SizeIs(4));
  EXPECT_THAT(backends, testing::Each(backends[0]));
  const int64_t alone = *backends[0]->AvailableBytes();
  const DeviceMemory memory = *devices->Memory({.world = 4, .count = 4});
  EXPECT_THAT(memory.available, testing::SizeIs(4));
  for (const int64_t bytes : memory.available) EXPECT_NEAR(bytes, alone / 4, alone / 16);
}

}  // namespace
}  // namespace yoio
