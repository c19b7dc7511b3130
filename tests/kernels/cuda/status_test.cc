// What a caller is told when CUDA refuses.
#include "kernels/cuda/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/backend.h"
#include "kernels/cuda/device_info.h"

namespace yoio::kernels::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST(StatusTest, SuccessIsOk) { EXPECT_TRUE(ToStatus(cudaSuccess, "cudaMalloc").ok()); }

struct Refusal {
  cudaError_t error;
  absl::StatusCode code;
  const char* advice;
};

class RefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(RefusalTest, NamesTheCallTheErrorAndWhatToDo) {
  const absl::Status status = ToStatus(GetParam().error, "cudaGetDeviceCount");
  EXPECT_EQ(status.code(), GetParam().code) << status.ToString();
  EXPECT_THAT(MessageOf(status),
              AllOf(HasSubstr("cudaGetDeviceCount: "), HasSubstr(cudaGetErrorName(GetParam().error)),
                    HasSubstr(cudaGetErrorString(GetParam().error)), HasSubstr(GetParam().advice)));
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusalTest,
    testing::Values(Refusal{cudaErrorNoDevice, absl::StatusCode::kUnavailable, "CUDA_VISIBLE_DEVICES"},
                    Refusal{cudaErrorInsufficientDriver, absl::StatusCode::kUnavailable, "driver"},
                    Refusal{cudaErrorStubLibrary, absl::StatusCode::kUnavailable, "LD_LIBRARY_PATH"},
                    Refusal{cudaErrorDevicesUnavailable, absl::StatusCode::kUnavailable, "nvidia-smi"},
                    Refusal{cudaErrorSystemNotReady, absl::StatusCode::kUnavailable, "nvidia-fabricmanager"},
                    Refusal{cudaErrorSystemDriverMismatch, absl::StatusCode::kUnavailable, "restart"},
                    Refusal{cudaErrorCompatNotSupportedOnDevice, absl::StatusCode::kUnavailable,
                            "newer driver"},
                    Refusal{cudaErrorNoKernelImageForDevice, absl::StatusCode::kFailedPrecondition,
                            "CMAKE_CUDA_ARCHITECTURES"},
                    Refusal{cudaErrorMemoryAllocation, absl::StatusCode::kResourceExhausted, ""},
                    Refusal{cudaErrorLaunchFailure, absl::StatusCode::kInternal, ""}),
    [](const auto& info) { return std::string(cudaGetErrorName(info.param.error)); });

TEST(StatusTest, DriverAdviceTellsNoneFromTooOld) {
  EXPECT_THAT(DriverAdvice(0),
              AllOf(HasSubstr("no NVIDIA driver"), HasSubstr(CudaVersionName(CUDART_VERSION))));
  EXPECT_THAT(DriverAdvice(11080),
              AllOf(HasSubstr("is for CUDA 11.8"), HasSubstr(CudaVersionName(CUDART_VERSION)),
                    HasSubstr("newer driver"), Not(HasSubstr("no NVIDIA driver"))));
}

// The GPUs of this machine, if it has any, are hidden before CUDA looks: each test is a process of its own.
TEST(StatusTest, NoDeviceIsUnavailable) {
  setenv("CUDA_VISIBLE_DEVICES", "", /*overwrite=*/1);
  EXPECT_EQ(ListDevices().status().code(), absl::StatusCode::kUnavailable);
  const absl::Status status = MakeBackend(DeviceKind::kCuda, 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status.ToString();
}

TEST(StatusTest, BuildDescriptionNeedsNoDevice) {
  EXPECT_THAT(BuildDescription(), AllOf(HasSubstr("CUDA "), HasSubstr("cuBLASLt ")));
}

}  // namespace
}  // namespace yoio::kernels::cuda
