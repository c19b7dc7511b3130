#include "bench/rank_labs.h"

#include <algorithm>
#include <barrier>

#include "base/clock.h"

namespace yoio::bench {
namespace {

std::vector<std::unique_ptr<Communicator>> Join(bool on_gpu, std::vector<std::unique_ptr<Lab>>& labs) {
  const int world = static_cast<int>(labs.size());
  GroupOptions options{.world = world, .num_ranks = world};
  std::unique_ptr<Rendezvous> rendezvous;
  if (on_gpu && world > 1) {
    options.kind = CommunicatorKind::kNccl;
    rendezvous = Must(MakeRendezvous(options.kind, /*host=*/""));
    options.ticket = rendezvous->ticket();
  }
  std::vector<kernels::Backend*> backends;
  for (const auto& lab : labs) backends.push_back(&lab->backend());
  return Must(MakeCommunicators(options, backends));
}

}  // namespace

RankLabs::RankLabs(bool on_gpu, int world, int threads) : pool_(world), labs_(world) {
  RunOnAll([&](int rank) {
    const int spare = rank < threads % world ? 1 : 0;
    labs_[rank] = std::make_unique<Lab>(on_gpu ? "cuda" : "cpu", std::max(1, threads / world + spare), rank);
  });
  comms_ = Join(on_gpu, labs_);
}

RankLabs::~RankLabs() {
  comms_.clear();  // what they share may lie in the memory of any device
  RunOnAll([&](int rank) { labs_[rank].reset(); });
}

double RankLabs::Seconds(absl::FunctionRef<void(int rank)> body) {
  std::barrier start(world());
  std::vector<TimePoint> starts(world()), ends(world());
  RunOnAll([&](int rank) {
    labs_[rank]->Synchronize();
    start.arrive_and_wait();
    starts[rank] = Clock::now();
    body(rank);
    labs_[rank]->Synchronize();
    ends[rank] = Clock::now();
  });
  return ToSeconds(*std::max_element(ends.begin(), ends.end()) -
                   *std::min_element(starts.begin(), starts.end()));
}

}  // namespace yoio::bench
