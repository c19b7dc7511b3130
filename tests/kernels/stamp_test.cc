#include <atomic>
#include <thread>

#include "base/clock.h"
#include "tests/support/backend_test.h"

namespace yoio::test {
namespace {

using kernels::Buffer;

constexpr int kParts = 3;

class StampTest : public BackendTest {
 protected:
  void Stamp(const DeviceArray<int64_t>& times, int part, int32_t* progress = nullptr, int32_t value = 0) {
    backend().Stamp(
        {.times = times.data(), .part = part, .num_parts = kParts, .progress = progress, .value = value},
        stream());
  }
  void Await() { ASSERT_EQ(backend().Synchronize(stream()), absl::OkStatus()); }
};

TEST_P(StampTest, TimeGoesToItsPart) {
  constexpr int64_t kPauseNs = 5'000'000, kSlack = 2000;  // the clock's steps, at both ends
  const DeviceArray<int64_t> times = Poisoned<int64_t>(1 + kParts);
  const TimePoint begin = Clock::now();
  Stamp(times, 0);
  Await();
  const std::vector<int64_t> first = times.Read();
  EXPECT_EQ((std::vector<int64_t>{first[1], first[2], first[3]}), (std::vector<int64_t>{0, 0, 0}));
  for (const int part : {2, 1, 2}) {  // comes back to a part
    std::this_thread::sleep_for(std::chrono::nanoseconds(kPauseNs));
    Stamp(times, part);
    Await();
  }
  const int64_t elapsed = std::chrono::nanoseconds(Clock::now() - begin).count();
  const std::vector<int64_t> last = times.Read();
  EXPECT_GE(last[1], kPauseNs - kSlack);
  EXPECT_GE(last[2], 2 * (kPauseNs - kSlack));
  EXPECT_EQ(last[3], 0);
  EXPECT_EQ(last[1] + last[2], last[0] - first[0]) << "nothing is lost between two parts";
  EXPECT_LE(last[0] - first[0], elapsed + kSlack + elapsed / 1000);
}

TEST_P(StampTest, TheBeginningForgetsWhatWas) {
  const DeviceArray<int64_t> times = Upload<int64_t>({7, 8, 9, 10});
  Stamp(times, 0);
  Await();
  const std::vector<int64_t> begun = times.Read();
  EXPECT_GT(begun[0], 10);
  EXPECT_EQ((std::vector<int64_t>{begun[1], begun[2], begun[3]}), (std::vector<int64_t>{0, 0, 0}));
}

TEST_P(StampTest, TheHostSeesHowFarItHasCome) {
  const DeviceArray<int64_t> times = Poisoned<int64_t>(1 + kParts);
  absl::StatusOr<Buffer> word = backend().AllocateHost(sizeof(int32_t));
  ASSERT_TRUE(word.ok()) << word.status().ToString();
  std::atomic_ref<int32_t> progress(*word->As<int32_t>());
  progress = -1;
  Stamp(times, 0, word->As<int32_t>(), 41);
  Stamp(times, kParts, word->As<int32_t>(), 42);
  Stamp(times, kParts);  // tells nobody
  Await();
  EXPECT_EQ(progress.load(), 42);
}

TEST_P(StampTest, WaitsForAllThatIsBeforeIt) {
  // What is queued takes long enough to be told from nothing: some ten megabytes, again and again.
  constexpr size_t kBytes = size_t{16} << 20;
  constexpr int kFills = 20;
  const DeviceArray<int64_t> times = Poisoned<int64_t>(1 + kParts);
  absl::StatusOr<Buffer> memory = backend().Allocate(kBytes);
  ASSERT_TRUE(memory.ok()) << memory.status().ToString();
  Stamp(times, 0);
  for (int i = 0; i < kFills; ++i) backend().Fill(memory->data(), i, kBytes, stream());
  Stamp(times, 1);
  Await();
  const std::vector<int64_t> took = times.Read();
  EXPECT_GT(took[1], kFills * 1000) << "no memory is filled with 16 TB a second";
}

TEST_P(StampTest, TakesPartInARecording) {
  if (!backend().captures()) GTEST_SKIP() << "this device records nothing";
  const DeviceArray<int64_t> times = Poisoned<int64_t>(1 + kParts);
  absl::StatusOr<Buffer> word = backend().AllocateHost(sizeof(int32_t));
  ASSERT_TRUE(word.ok()) << word.status().ToString();
  backend().BeginCapture(stream());
  Stamp(times, 1, word->As<int32_t>(), 1);
  Stamp(times, 2, word->As<int32_t>(), 2);
  auto graph = backend().EndCapture(stream());
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  for (int round = 0; round < 3; ++round) {
    *word->As<int32_t>() = 0;
    Stamp(times, 0);
    for (int replay = 0; replay < 2; ++replay) backend().Replay(**graph, stream());
    Stamp(times, 3);
    Await();
    const std::vector<int64_t> took = times.Read();
    EXPECT_GT(took[1] + took[2] + took[3], 0);
    EXPECT_LT(took[1] + took[2] + took[3], int64_t{10'000'000'000});
    EXPECT_EQ(std::atomic_ref(*word->As<int32_t>()).load(), 2);
  }
}

YOIO_TEST_ON_BACKENDS(StampTest);

}  // namespace
}  // namespace yoio::test
