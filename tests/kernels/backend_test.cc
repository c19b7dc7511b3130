#include "kernels/backend.h"

#include <cstdint>
#include <utility>

#include "gmock/gmock.h"
#include "tests/support/backend_test.h"
#include "tests/support/compare.h"

namespace yoio::test {
namespace {

using kernels::Backend;
using kernels::Buffer;
using kernels::DeviceKind;
using kernels::MakeBackend;
using ::testing::HasSubstr;

class MemoryTest : public BackendTest {};

TEST_P(MemoryTest, BuffersAreAlignedAndOwnTheirMemory) {
  for (size_t bytes : {size_t{1}, size_t{64}, size_t{100}, size_t{3} << 20}) {
    absl::StatusOr<Buffer> buffer = backend().Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status().ToString();
    EXPECT_EQ(buffer->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    const void* data = buffer->data();
    Buffer moved = *std::move(buffer);
    EXPECT_EQ(moved.data(), data);
    Buffer assigned;
    assigned = std::move(moved);
    EXPECT_EQ(assigned.data(), data);
    // What a move leaves behind is promised. NOLINTNEXTLINE(bugprone-use-after-move)
    EXPECT_EQ(moved.data(), nullptr);
    Buffer& alias = assigned;
    assigned = std::move(alias);
    EXPECT_EQ(assigned.data(), data);
  }
}

TEST_P(MemoryTest, NothingAndTooMuch) {
  const absl::StatusOr<Buffer> nothing = backend().Allocate(0);
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(nothing->bytes(), 0u);
  EXPECT_EQ(backend().Allocate(SIZE_MAX).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_P(MemoryTest, CopiesThereAndBack) {
  absl::StatusOr<Buffer> buffer = backend().Allocate(6 * sizeof(int32_t));
  ASSERT_TRUE(buffer.ok());
  const std::vector<int32_t> sent = {1, 2, 3, 4, 5, 6};
  std::vector<int32_t> received(6);
  backend().CopyToDevice(buffer->data(), sent.data(), buffer->bytes(), stream());
  backend().Fill(buffer->As<int32_t>() + 4, 0xff, sizeof(int32_t), stream());
  backend().CopyToHost(received.data(), buffer->data(), buffer->bytes(), stream());
  ASSERT_TRUE(backend().Synchronize(stream()).ok());
  EXPECT_EQ(received, (std::vector<int32_t>{1, 2, 3, 4, -1, 6}));
}

TEST_P(MemoryTest, StreamsNeedAThread) {
  EXPECT_EQ(backend().NewStream(0).status().code(), absl::StatusCode::kInvalidArgument);
}

YOIO_TEST_ON_BACKENDS(MemoryTest);

TEST(MakeBackendTest, SaysWhatIsMissing) {
  EXPECT_EQ((*MakeBackend(DeviceKind::kCpu, 0))->name(), "cpu");
  EXPECT_EQ(MakeBackend(DeviceKind::kCpu, 1).status().code(), absl::StatusCode::kInvalidArgument);
  const absl::Status status = MakeBackend(DeviceKind::kCuda, 3).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cuda:3"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("cpu"));
}

}  // namespace
}  // namespace yoio::test
