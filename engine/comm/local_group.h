// Where the threads of a `local` communicator meet.
#ifndef YOIO_ENGINE_COMM_LOCAL_GROUP_H_
#define YOIO_ENGINE_COMM_LOCAL_GROUP_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "engine/comm/collective.h"

namespace yoio {

// Runs one collective after another: all ranks arrive, all work on each other's memory, all leave. A rank has
// one cache line that the others watch; it holds the rank's progress, a number that only grows:
//   3k      the rank has finished k collectives
//   3k + 1  it has arrived at the next one, its call and data may be read
//   3k + 2  it works: it reads and writes memory of the others
// Thread-safe: rank r is used by one thread at a time, Abort by any. Shared by the handles of the group.
class LocalGroup {
 public:
  explicit LocalGroup(int world);

  int world() const { return static_cast<int>(members_.size()); }

  // `data` is read by the other ranks, and written unless they gather. Returns once every rank has run
  // `work`, or with the abort's status; then `work` may not have run.
  absl::Status Run(int rank, const CollectiveCall& call, std::byte* data, absl::FunctionRef<void()> work);

  // What another rank brings; only within `work`.
  std::byte* data(int rank) const { return members_[rank].data; }

  void Abort(absl::Status status);
  // The abort's status, or OK.
  absl::Status health() const;

 private:
  struct alignas(64) Member {
    std::atomic<uint64_t> progress{0};
    CollectiveCall call;  // published by `progress`, as is `data`
    std::byte* data;
  };

  bool AllReached(uint64_t progress) const;
  // Waits until all ranks have reached `progress`. False when the group was aborted before.
  bool Await(uint64_t progress);
  // The part of Await without a lock: spins, then yields, for a bounded time.
  bool AwaitAwake(uint64_t progress) const;
  void Advance(int rank, uint64_t progress);
  void CheckAgreement(const CollectiveCall& call) const;
  // Waits until nobody works on memory of others, then returns the abort's status.
  absl::Status Leave() const;

  std::vector<Member> members_;
  std::atomic<bool> aborted_{false};
  std::atomic<int> sleepers_{0};
  mutable Mutex mutex_;
  CondVar wake_;
  absl::Status abort_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_LOCAL_GROUP_H_
