// One thread per rank that lives as long as its device memory and streams do: a GPU is the current one of a
// thread, not of a call.
#ifndef YOIO_TESTS_SUPPORT_RANK_THREADS_H_
#define YOIO_TESTS_SUPPORT_RANK_THREADS_H_

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/bounded_queue.h"

namespace yoio::test {

// Used by one thread at a time.
class RankThreads {
 public:
  explicit RankThreads(int world) : done_(world) {
    for (int rank = 0; rank < world; ++rank) {
      bodies_.push_back(std::make_unique<BoundedQueue<Body>>(1));
      threads_.emplace_back([this, rank] {
        while (auto body = bodies_[rank]->Pop()) done_.Push((*body)(rank));
      });
    }
  }
  ~RankThreads() {
    for (auto& bodies : bodies_) bodies->Close();
    for (std::thread& thread : threads_) thread.join();
  }

  // Calls body(rank) on every rank's thread and waits for all. Returns an error if any did.
  absl::Status Run(const std::function<absl::Status(int rank)>& body) {
    for (auto& bodies : bodies_) bodies->Push(body);
    absl::Status status;
    for (size_t i = 0; i < threads_.size(); ++i) status.Update(*done_.Pop());
    return status;
  }

 private:
  using Body = std::function<absl::Status(int rank)>;

  std::vector<std::unique_ptr<BoundedQueue<Body>>> bodies_;  // by rank
  BoundedQueue<absl::Status> done_;
  std::vector<std::thread> threads_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_RANK_THREADS_H_
