// The ranks that one process holds in an NCCL group: how they meet, queue collectives, and end.
#ifndef YOIO_ENGINE_COMM_NCCL_GROUP_H_
#define YOIO_ENGINE_COMM_NCCL_GROUP_H_

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "kernels/backend.h"

namespace yoio {

// The ticket of a new group. UNAVAILABLE when this machine has no network interface that NCCL can use.
absl::StatusOr<std::string> NewNcclTicket();

// NCCL's communicators are of its non-blocking kind: whatever must wait for another rank happens on a thread
// of NCCL's, so that a rank that is gone can hold up no thread of ours. Members are counted from 0 in this
// process. Thread-safe: a member is used by one thread at a time, health and Abort by any.
class NcclGroup {
 public:
  struct Options {
    int world;
    int first_rank;
    std::vector<int> devices;  // of this process's ranks
    std::string ticket;
    TimePoint deadline;  // for all ranks to have come
  };

  // INVALID_ARGUMENT for what is no ticket; DEADLINE_EXCEEDED; or what NCCL says. `host` gives host memory to
  // all devices, and outlives the group.
  static absl::StatusOr<std::unique_ptr<NcclGroup>> Join(const Options& options, kernels::Backend& host);
  // Waits until every graph that holds a collective of this group is gone.
  ~NcclGroup();

  int world() const { return options_.world; }
  int first_rank() const { return options_.first_rank; }
  int num_members() const { return static_cast<int>(options_.devices.size()); }
  int device(int member) const { return options_.devices[member]; }

  // Runs call(communicator of the member), which queues one collective, and returns when it is queued. With
  // the abort's status when there was one.
  absl::Status Queue(int member, absl::FunctionRef<ncclResult_t(ncclComm_t)> call);

  // `all` = what every rank of the group brings, in rank order; `mine` is that of this process's. Blocks
  // until the deadline of Join at the latest; an error has aborted the group. By one thread, before any
  // collective was queued.
  template <typename T>
  absl::StatusOr<std::vector<T>> Exchange(std::span<const T> mine) {
    std::vector<T> all(world());
    const absl::Status status = ExchangeBytes(std::as_bytes(mine), std::as_writable_bytes(std::span(all)));
    if (!status.ok()) return status;
    return all;
  }

  absl::Status health(int member);
  // Host memory that every device of this process can read: not 0 once the group was aborted.
  const uint32_t* abort_word() const { return abort_word_.As<uint32_t>(); }
  // Returns at once; NCCL's kernels and those that look at abort_word leave soon after.
  void Abort(absl::Status status);

 private:
  explicit NcclGroup(const Options& options) : options_(options) {}
  absl::Status Meet();
  class Courier;
  struct Member {
    ncclComm_t comm = nullptr;  // null once aborted
    bool is_queueing = false;   // its thread is in Queue
  };

  absl::Status ExchangeBytes(std::span<const std::byte> mine, std::span<std::byte> all);
  absl::Status SendAndFetch(std::span<const std::byte> mine, std::span<std::byte> all,
                            std::vector<std::unique_ptr<Courier>>& couriers);
  // What is left of an abort, on a thread of its own.
  void End(Member& member);
  // call(member) for all of them together, each on its device.
  absl::Status CallForAll(const char* what, absl::FunctionRef<ncclResult_t(int)> call);
  // Waits for what NCCL does in the background for all members.
  absl::Status AwaitAll();
  absl::Status Late() const;
  // The state of a member, ncclInProgress included.
  absl::StatusOr<ncclResult_t> State(int member);

  const Options options_;
  kernels::Buffer abort_word_;
  Mutex mutex_;  // held while NCCL is called, which is never for long
  CondVar queued_;
  std::vector<Member> members_ ABSL_GUARDED_BY(mutex_);
  absl::Status abort_status_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> aborting_;  // a thread a member; started by the one Abort that counts
};

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_NCCL_GROUP_H_
