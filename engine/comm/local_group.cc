#include "engine/comm/local_group.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/cpu_relax.h"

namespace yoio {
namespace {

// Ranks of one layer arrive within a few microseconds of each other. The first looks, a fraction of a
// microsecond together, are for a rank that is about to store.
constexpr int kSpins = 16;

// Then every look offers the core to whoever wants it, perhaps to the very rank that is waited for: a quarter
// of a microsecond on an idle machine, and what keeps the exchange quick on a busy one (measured with ten
// runnable threads on two cores: 3 us an exchange; 100 us and more when spinning instead). A sleep and its
// wake-up cost about kAwake, so that staying awake for as long at most doubles a wait.
constexpr Duration kAwake = std::chrono::microseconds(50);

}  // namespace

LocalGroup::LocalGroup(int world) : members_(world) {}

absl::Status LocalGroup::Run(int rank, const CollectiveCall& call, std::byte* data,
                             absl::FunctionRef<void()> work) {
  if (aborted_.load()) return Leave();
  Member& me = members_[rank];
  const uint64_t finished = me.progress.load(std::memory_order_relaxed);
  me.call = call;
  me.data = data;
  Advance(rank, finished + 1);
  if (!Await(finished + 1)) return Leave();

  // From here on this rank counts as working. Either it sees an abort now and backs out, or whoever leaves
  // because of that abort sees it working and waits: the two stores and loads are sequentially consistent.
  me.progress.store(finished + 2);
  if (aborted_.load()) {
    me.progress.store(finished + 1);
    return Leave();
  }
  CheckAgreement(call);
  work();
  Advance(rank, finished + 3);
  return Await(finished + 3) ? absl::OkStatus() : Leave();
}

void LocalGroup::Abort(absl::Status status) {
  YOIO_CHECK(!status.ok()) << "an abort needs an error";
  MutexLock lock(mutex_);
  if (aborted_.load()) return;
  abort_status_ = std::move(status);
  aborted_.store(true);
  wake_.NotifyAll();
}

absl::Status LocalGroup::health() const {
  if (!aborted_.load()) return absl::OkStatus();
  MutexLock lock(mutex_);
  return abort_status_;
}

bool LocalGroup::AllReached(uint64_t progress) const {
  return std::all_of(members_.begin(), members_.end(),
                     [progress](const Member& member) { return member.progress.load() >= progress; });
}

bool LocalGroup::Await(uint64_t progress) {
  if (AwaitAwake(progress)) return true;
  // Advance looks at sleepers_ after it has stored, this thread at progress after it has counted itself: at
  // least one of the two sees the other.
  sleepers_.fetch_add(1);
  {
    MutexLock lock(mutex_);
    while (!AllReached(progress) && !aborted_.load()) wake_.Wait(mutex_);
  }
  sleepers_.fetch_sub(1);
  return AllReached(progress);
}

bool LocalGroup::AwaitAwake(uint64_t progress) const {
  for (int i = 0; i < kSpins; ++i) {
    if (AllReached(progress)) return true;
    CpuRelax();
  }
  const TimePoint end = Clock::now() + kAwake;
  while (!aborted_.load() && Clock::now() < end) {
    if (AllReached(progress)) return true;
    std::this_thread::yield();
  }
  return false;
}

void LocalGroup::Advance(int rank, uint64_t progress) {
  members_[rank].progress.store(progress);
  // Only the last to arrive wakes the others. Two that arrive together may both find themselves last.
  if (sleepers_.load() > 0 && AllReached(progress)) {
    MutexLock lock(mutex_);
    wake_.NotifyAll();
  }
}

void LocalGroup::CheckAgreement(const CollectiveCall& call) const {
  for (const Member& member : members_) {
    YOIO_CHECK(call == member.call) << "the ranks of a group differ: " << call << "; " << member.call;
  }
}

absl::Status LocalGroup::Leave() const {
  for (const Member& member : members_) {
    while (member.progress.load() % 3 == 2) std::this_thread::yield();
  }
  MutexLock lock(mutex_);
  return abort_status_;
}

}  // namespace yoio
