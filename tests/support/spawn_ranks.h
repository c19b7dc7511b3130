// Runs one body per rank, each on a thread of its own.
#ifndef YOIO_TESTS_SUPPORT_SPAWN_RANKS_H_
#define YOIO_TESTS_SUPPORT_SPAWN_RANKS_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/status.h"
#include "engine/comm/communicator.h"

namespace yoio::test {

// The handles of a group whose ranks are all threads of this process.
inline absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeRanks(
    CommunicatorKind kind, const std::vector<kernels::Backend*>& backends, const std::string& host = "") {
  const int world = static_cast<int>(backends.size());
  GroupOptions options = {.kind = kind, .world = world, .num_ranks = world, .host = host};
  std::unique_ptr<Rendezvous> rendezvous;
  if (kind != CommunicatorKind::kLocal) {
    YOIO_ASSIGN_OR_RETURN(rendezvous, MakeRendezvous(kind, host));
    options.ticket = rendezvous->ticket();
    options.rendezvous = rendezvous.get();
  }
  return MakeCommunicators(options, backends);
}

// Calls body(handle) on a thread per handle and joins them all. The first body that returns an error aborts
// the group with it, so that a failure on one rank never leaves the others waiting; that error is returned.
inline absl::Status SpawnRanks(const std::vector<std::unique_ptr<Communicator>>& ranks,
                               const std::function<absl::Status(Communicator&)>& body) {
  Mutex mutex;
  absl::Status first;
  std::vector<std::thread> threads;
  for (const std::unique_ptr<Communicator>& rank : ranks) {
    threads.emplace_back([&, comm = rank.get()] {
      const absl::Status status = body(*comm);
      if (status.ok()) return;
      {
        MutexLock lock(mutex);
        if (first.ok()) first = status;
      }
      comm->Abort(status);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return first;
}

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_SPAWN_RANKS_H_
