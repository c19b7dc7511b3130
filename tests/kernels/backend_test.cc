#include "kernels/backend.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "tests/support/backend_test.h"
#include "tests/support/compare.h"

namespace yoio::test {
namespace {

using kernels::Backend;
using kernels::Buffer;
using kernels::DeviceKind;
using kernels::Event;
using kernels::Graph;
using kernels::MakeBackend;
using kernels::WordUpdate;
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

TEST_P(MemoryTest, HostMemoryTakesPartInCopies) {
  constexpr size_t kBytes = 1 << 20;
  absl::StatusOr<Buffer> device = backend().Allocate(kBytes);
  absl::StatusOr<Buffer> sent = backend().AllocateHost(kBytes), received = backend().AllocateHost(kBytes);
  ASSERT_TRUE(device.ok());
  ASSERT_TRUE(sent.ok()) << sent.status().ToString();
  ASSERT_TRUE(received.ok()) << received.status().ToString();
  EXPECT_EQ(sent->bytes(), kBytes);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(sent->data()) % 64, 0u);
  for (size_t i = 0; i < kBytes; ++i) sent->As<uint8_t>()[i] = static_cast<uint8_t>(i * 7 + (i >> 8));
  std::memset(received->data(), 0, kBytes);
  backend().CopyToDevice(device->data(), sent->data(), kBytes, stream());
  backend().CopyToHost(received->data(), device->data(), kBytes, stream());
  ASSERT_TRUE(backend().Synchronize(stream()).ok());
  EXPECT_EQ(std::memcmp(sent->data(), received->data(), kBytes), 0);
  const absl::StatusOr<Buffer> nothing = backend().AllocateHost(0);
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(nothing->bytes(), 0u);
}

// Threads are the CPU's.
TEST_P(MemoryTest, StreamsNeedAThread) {
  const absl::Status status = backend().NewStream(0).status();
  EXPECT_EQ(status.code(), on_cuda() ? absl::StatusCode::kOk : absl::StatusCode::kInvalidArgument);
}

class EventTest : public BackendTest {};

TEST_P(EventTest, PassesWhenWhatStandsBeforeItHasRun) {
  absl::StatusOr<std::unique_ptr<Event>> event = backend().NewEvent();
  ASSERT_TRUE(event.ok()) << event.status().ToString();
  absl::StatusOr<Buffer> device = backend().Allocate(sizeof(int32_t) << 20);
  absl::StatusOr<Buffer> host = backend().AllocateHost(device->bytes());
  ASSERT_TRUE(device.ok() && host.ok());
  for (int round = 1; round <= 3; ++round) {  // an event may be marked again
    backend().Fill(device->data(), round, device->bytes(), stream());
    backend().CopyToHost(host->data(), device->data(), device->bytes(), stream());
    backend().Record(**event, stream());
    absl::StatusOr<bool> passed = false;
    while (passed.ok() && !*passed) passed = backend().Passed(**event);
    ASSERT_TRUE(passed.ok()) << passed.status().ToString();
    EXPECT_EQ(host->As<int32_t>()[(1 << 20) - 1], round * 0x01010101);
  }
}

class GraphTest : public BackendTest {};

// A graph keeps its arguments and reads anew what they point at.
TEST_P(GraphTest, ReplaysWithTheMemoryOfTheMoment) {
  if (!backend().captures()) GTEST_SKIP() << "this backend records nothing";
  const DeviceArray<int32_t> words = Upload(std::vector<int32_t>{0, 0, 0, 0});
  const DeviceArray<int32_t> rows = Upload(std::vector<int32_t>{0, 0});
  const DeviceArray<int32_t> gathered = Upload(std::vector<int32_t>{0, 0});
  const DeviceArray<WordUpdate> updates = Upload(std::vector<WordUpdate>{{1, 10}, {3, 30}});
  // The second operation reads what the first one wrote.
  backend().BeginCapture(stream());
  backend().UpdateWords({.updates = updates.data(), .num_updates = 2, .words = words.data()}, stream());
  backend().GatherRows(
      {.src = words.data(), .rows = rows.data(), .num_rows = 2, .row_bytes = 4, .out = gathered.data()},
      stream());
  absl::StatusOr<std::unique_ptr<Graph>> graph = backend().EndCapture(stream());
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  EXPECT_EQ(words.Read(), (std::vector<int32_t>{0, 0, 0, 0}));  // recorded, not run

  for (int round = 1; round <= 3; ++round) {
    const std::vector<WordUpdate> now = {{1, round}, {round == 2 ? 0 : 3, 5 * round}};
    const std::vector<int32_t> now_rows = {1, now[1].place};
    backend().CopyToDevice(updates.data(), now.data(), sizeof(WordUpdate) * now.size(), stream());
    backend().CopyToDevice(rows.data(), now_rows.data(), sizeof(int32_t) * now_rows.size(), stream());
    backend().Replay(**graph, stream());
    EXPECT_EQ(gathered.Read(), (std::vector<int32_t>{round, 5 * round}));
  }
  EXPECT_EQ(words.Read(), (std::vector<int32_t>{10, 3, 0, 15}));
}

class SideStreamTest : public BackendTest {
 protected:
  static constexpr int kWords = 1 << 20;  // enough for work that does not wait to be seen

  // to[i] = from[i].
  void Copy(const DeviceArray<int32_t>& from, const DeviceArray<int32_t>& to, kernels::Stream& where) {
    backend().GatherRows(
        {.src = from.data(), .rows = rows_->data(), .num_rows = kWords, .row_bytes = 4, .out = to.data()},
        where);
  }

  // The stream gives `first`, the side makes `second` of it, and the stream `third` of that.
  void Queue(kernels::Stream& side) {
    Copy(*source_, *first_, stream());
    backend().WaitFor(side, stream());
    Copy(*first_, *second_, side);
    Copy(*source_, *beside_, stream());
    backend().WaitFor(stream(), side);
    Copy(*second_, *third_, stream());
  }

  void Expect(int32_t word) {
    EXPECT_EQ(third_->Read(), std::vector<int32_t>(kWords, word));
    EXPECT_EQ(beside_->Read(), std::vector<int32_t>(kWords, word));
  }

  void Source(int32_t word) {
    const std::vector<int32_t> words(kWords, word);
    backend().CopyToDevice(source_->data(), words.data(), kWords * sizeof(int32_t), stream());
    ASSERT_TRUE(backend().Synchronize(stream()).ok());
  }

  void SetUp() override {
    BackendTest::SetUp();
    std::vector<int32_t> rows(kWords);
    std::iota(rows.begin(), rows.end(), 0);
    rows_.emplace(backend(), stream(), rows);
    for (auto* array : {&source_, &first_, &second_, &third_, &beside_}) {
      array->emplace(backend(), stream(), size_t{kWords});
    }
  }

  std::optional<DeviceArray<int32_t>> rows_, source_, first_, second_, third_, beside_;
};

TEST_P(SideStreamTest, RunsBetweenTheWaits) {
  const absl::StatusOr<kernels::Stream*> side = backend().SideStream(stream());
  ASSERT_TRUE(side.ok()) << side.status().ToString();
  EXPECT_EQ(*backend().SideStream(stream()), *side);
  for (int round = 1; round <= 3; ++round) {
    Source(round);
    Queue(**side);
    Expect(round);
  }
}

TEST_P(SideStreamTest, IsRecordedWithItsStream) {
  if (!backend().captures()) GTEST_SKIP() << "this backend records nothing";
  const absl::StatusOr<kernels::Stream*> side = backend().SideStream(stream());
  ASSERT_TRUE(side.ok()) << side.status().ToString();
  backend().BeginCapture(stream());
  Queue(**side);
  absl::StatusOr<std::unique_ptr<Graph>> graph = backend().EndCapture(stream());
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  for (int round = 1; round <= 3; ++round) {
    Source(round);
    backend().Replay(**graph, stream());
    Expect(round);
  }
}

YOIO_TEST_ON_BACKENDS(EventTest);
YOIO_TEST_ON_BACKENDS(GraphTest);
YOIO_TEST_ON_BACKENDS(SideStreamTest);

YOIO_TEST_ON_BACKENDS(MemoryTest);

TEST(MakeBackendTest, SaysWhatIsMissing) {
  EXPECT_EQ((*MakeBackend(DeviceKind::kCpu, 0))->name(), "cpu");
  EXPECT_EQ(MakeBackend(DeviceKind::kCpu, 1).status().code(), absl::StatusCode::kInvalidArgument);
  // Unimplemented in a binary without CUDA; otherwise no machine has so many GPUs, or it has none at all.
  const absl::Status status = MakeBackend(DeviceKind::kCuda, 999).status();
  if (status.code() == absl::StatusCode::kUnimplemented) {
    EXPECT_THAT(std::string(status.message()), HasSubstr("cuda:999"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("cpu"));
  } else {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status.ToString();
  }
}

}  // namespace
}  // namespace yoio::test
