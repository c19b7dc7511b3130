// Runs one body per rank, each on a thread of its own.
#ifndef YOIO_TESTS_SUPPORT_SPAWN_RANKS_H_
#define YOIO_TESTS_SUPPORT_SPAWN_RANKS_H_

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "engine/comm/communicator.h"

namespace yoio::test {

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
