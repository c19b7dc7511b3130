// The ranks of one process: a lab and a thread each.
#ifndef YOIO_BENCH_RANK_LABS_H_
#define YOIO_BENCH_RANK_LABS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/thread_pool.h"
#include "bench/lab.h"
#include "engine/comm/communicator.h"

namespace yoio::bench {

// Made, used and destroyed by one thread, which is rank 0's too.
class RankLabs {
 public:
  // GPUs: rank r takes number r. CPU: the ranks share the `threads`. Ends the program, in one line, when the
  // machine has not as many devices.
  RankLabs(bool on_gpu, int world, int threads);
  ~RankLabs();
  RankLabs(const RankLabs&) = delete;
  RankLabs& operator=(const RankLabs&) = delete;

  int world() const { return pool_.num_threads(); }
  // Only rank 0's, or within RunOnAll.
  Lab& lab(int rank) { return *labs_[rank]; }
  // This rank's handle on the group of all.
  Communicator& comm(int rank) { return *comms_[rank]; }

  // Calls body(rank) once for every rank, each on the rank's thread and all at the same time.
  void RunOnAll(absl::FunctionRef<void(int rank)> body) { pool_.RunOnAll(body); }
  // The same, timed: seconds from a start that the ranks share until the last one's device has run what
  // `body` queued.
  double Seconds(absl::FunctionRef<void(int rank)> body);

 private:
  ThreadPool pool_;
  std::vector<std::unique_ptr<Lab>> labs_;
  std::vector<std::unique_ptr<Communicator>> comms_;
};

}  // namespace yoio::bench

#endif  // YOIO_BENCH_RANK_LABS_H_
