#include "engine/comm/socket_communicator.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/comm/group_end.h"
#include "engine/comm/socket_join.h"
#include "engine/comm/socket_link.h"

namespace yoio {
namespace {

// How long a rank looks again and again before it sleeps; see local_group.cc.
constexpr Duration kAwake = std::chrono::microseconds(50);

// After a connection has closed: until the last word that was sent before it must have come.
constexpr Duration kLastWordIsUnderWay = std::chrono::seconds(1);

// Sums up to here cost less than the second exchange that slices need.
constexpr size_t kWholeSumBytes = 16 << 10;

constexpr size_t kFloatsPerLine = 16;  // floats in 64 bytes
constexpr size_t kMaxLastWord = 512;   // bytes: one packet

// [0, count) cut into one slice per rank.
class Slices {
 public:
  Slices(size_t count, size_t world) : count_(count) {
    const size_t per_rank = (count + world - 1) / world;
    slice_ = (per_rank + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine;
  }

  std::span<float> Of(float* data, size_t rank) const {
    const size_t begin = std::min(count_, rank * slice_);
    return {data + begin, std::min(count_, begin + slice_) - begin};
  }

 private:
  size_t count_;
  size_t slice_;
};

class SocketCommunicator final : public Communicator {
 public:
  SocketCommunicator(int rank, std::vector<SocketPeer> peers, std::shared_ptr<GroupEnd> end)
      : rank_(rank), links_(peers.size()), last_words_(peers.size()), end_(std::move(end)) {
    for (size_t peer = 0; peer < peers.size(); ++peer) {
      links_[peer] = SocketLink(std::move(peers[peer].data));
      last_words_[peer] = std::move(peers[peer].last_words);
    }
    files_.resize(1 + 2 * peers.size());
  }

  int rank() const override { return rank_; }
  int world() const override { return static_cast<int>(links_.size()); }

  absl::Status Broadcast(std::span<std::byte> data, int root, kernels::Stream&) override {
    YOIO_CHECK(root >= 0 && root < world()) << "root " << root << " of a world of " << world();
    const SocketFrame frame = Next({Collective::kBroadcast, data.size(), root});
    if (rank_ != root) {
      links_[root].Receive(data, &frame);
      return Exchange();
    }
    for (SocketLink& link : links_) {
      if (&link != &links_[rank_]) link.Send(data, &frame);
    }
    return Exchange();
  }

  absl::Status AllReduce(void* data, size_t count, kernels::DType type, kernels::Stream&) override {
    YOIO_CHECK(type == kernels::DType::kF32 || world() == 1) << "host memory holds floats";
    const SocketFrame frame = Next({Collective::kAllReduce, count * SizeOf(type), 0});
    if (world() == 1) return Exchange();
    const std::span<float> floats(static_cast<float*>(data), count);
    return frame.call.bytes <= kWholeSumBytes ? AddWhole(floats, frame) : AddSlices(floats, frame);
  }

  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                         kernels::Stream&) override {
    YOIO_CHECK_EQ(all.size(), mine.size() * world());
    const SocketFrame frame = Next({Collective::kAllGather, mine.size(), 0});
    for (int peer = 0; peer < world(); ++peer) {
      const std::span<std::byte> place(all.data() + peer * mine.size(), mine.size());
      if (peer != rank_) {
        links_[peer].Send(mine, &frame);
        links_[peer].Receive(place, &frame);
      } else if (place.data() != mine.data()) {
        std::copy(mine.begin(), mine.end(), place.begin());
      }
    }
    return Exchange();
  }

  absl::Status health() override;
  void Abort(absl::Status status) override;

 private:
  SocketFrame Next(const CollectiveCall& call) { return {call, next_number_++}; }

  // The two ways of AllReduce: everything to everyone, added everywhere; or each rank adds its slice and
  // hands it round. Every element is added in rank order in both.
  absl::Status AddWhole(std::span<float> data, const SocketFrame& frame);
  absl::Status AddSlices(std::span<float> data, const SocketFrame& frame);
  // The others' addends of `mine`, one after another.
  std::span<float> Addend(int peer, size_t count) { return std::span(addends_).subspan(peer * count, count); }
  void Add(std::span<float> mine);

  // Until all that was begun on the links is done.
  absl::Status Exchange();
  // Moves what can be moved; how many bytes that were.
  absl::StatusOr<size_t> Advance();
  bool AllIdle() const;
  // Until a link can move, or anything has ended.
  absl::Status Sleep();
  // Ends the group because of a peer from whom nothing comes any more, now or within `patience`.
  absl::Status EndBecauseOf(int peer, Duration patience);

  const int rank_;
  std::vector<SocketLink> links_;  // by rank; this rank's own is always idle
  std::vector<Socket> last_words_;
  const std::shared_ptr<GroupEnd> end_;  // of all ranks of this process
  std::atomic<bool> spoke_{false};       // its last word
  uint64_t next_number_ = 0;
  std::vector<float> addends_;  // grows to the largest sum
  std::vector<pollfd> files_;   // the group's end, then a link and the last words per rank
};

absl::Status SocketCommunicator::AddWhole(std::span<float> data, const SocketFrame& frame) {
  addends_.resize(std::max(addends_.size(), data.size() * world()));
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank_) continue;
    links_[peer].Send(std::as_bytes(data), &frame);
    links_[peer].Receive(std::as_writable_bytes(Addend(peer, data.size())), &frame);
  }
  YOIO_RETURN_IF_ERROR(Exchange());
  Add(data);
  return absl::OkStatus();
}

absl::Status SocketCommunicator::AddSlices(std::span<float> data, const SocketFrame& frame) {
  const Slices slices(data.size(), world());
  const std::span<float> mine = slices.Of(data.data(), rank_);
  addends_.resize(std::max(addends_.size(), mine.size() * world()));
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank_) continue;
    links_[peer].Send(std::as_bytes(slices.Of(data.data(), peer)), &frame);
    links_[peer].Receive(std::as_writable_bytes(Addend(peer, mine.size())), &frame);
  }
  YOIO_RETURN_IF_ERROR(Exchange());
  Add(mine);
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank_) continue;
    links_[peer].Send(std::as_bytes(mine));
    links_[peer].Receive(std::as_writable_bytes(slices.Of(data.data(), peer)));
  }
  return Exchange();
}

void SocketCommunicator::Add(std::span<float> mine) {
  const auto addend = [&](int rank) { return rank == rank_ ? mine : Addend(rank, mine.size()); };
  const std::span<float> sum = addend(0);
  for (int rank = 1; rank < world(); ++rank) {
    const std::span<const float> next = addend(rank);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += next[i];
  }
  if (rank_ != 0) std::copy(sum.begin(), sum.end(), mine.begin());
}

absl::Status SocketCommunicator::Exchange() {
  TimePoint sleep_at = Clock::now() + kAwake;
  while (!end_->ended()) {
    YOIO_ASSIGN_OR_RETURN(const size_t moved, Advance());
    if (AllIdle()) return absl::OkStatus();
    const TimePoint now = Clock::now();
    if (moved > 0) {
      sleep_at = now + kAwake;
    } else if (now < sleep_at) {
      std::this_thread::yield();
    } else {
      YOIO_RETURN_IF_ERROR(Sleep());
    }
  }
  return end_->status();
}

absl::StatusOr<size_t> SocketCommunicator::Advance() {
  size_t moved = 0;
  for (int peer = 0; peer < world(); ++peer) {
    if (links_[peer].idle()) continue;
    const SocketProgress progress = links_[peer].Advance();
    if (progress.closed) return EndBecauseOf(peer, kLastWordIsUnderWay);
    moved += progress.bytes;
  }
  return moved;
}

bool SocketCommunicator::AllIdle() const {
  return std::all_of(links_.begin(), links_.end(), [](const SocketLink& link) { return link.idle(); });
}

absl::Status SocketCommunicator::Sleep() {
  files_[0] = {end_->wake_fd(), POLLIN, 0};
  for (int peer = 0; peer < world(); ++peer) {
    const SocketLink& link = links_[peer];
    files_[1 + 2 * peer] = {link.idle() ? -1 : link.fd(), link.events(), 0};
    files_[2 + 2 * peer] = {last_words_[peer].fd(), POLLIN, 0};
  }
  if (poll(files_.data(), files_.size(), -1) < 0) return absl::OkStatus();  // a signal
  for (int peer = 0; peer < world(); ++peer) {
    if (files_[2 + 2 * peer].revents != 0) return EndBecauseOf(peer, Duration::zero());
  }
  return absl::OkStatus();
}

absl::Status SocketCommunicator::EndBecauseOf(int peer, Duration patience) {
  std::array<pollfd, 2> files = {pollfd{last_words_[peer].fd(), POLLIN, 0},
                                 pollfd{end_->wake_fd(), POLLIN, 0}};
  poll(files.data(), files.size(), PollTimeout(Clock::now() + patience));
  std::array<char, kMaxLastWord> word;
  const size_t size = Receive(last_words_[peer], std::as_writable_bytes(std::span(word))).bytes;
  end_->End(absl::UnavailableError(
      size > 0 ? absl::StrCat("rank ", peer, " ended: ", std::string(word.data(), size))
               : absl::StrCat("rank ", peer, " is gone")));
  return end_->status();
}

absl::Status SocketCommunicator::health() {
  for (int peer = 0; peer < world() && !end_->ended(); ++peer) {
    pollfd file = {last_words_[peer].fd(), POLLIN, 0};
    if (poll(&file, 1, 0) > 0) return EndBecauseOf(peer, Duration::zero());
  }
  return end_->status();
}

void SocketCommunicator::Abort(absl::Status status) {
  end_->End(std::move(status));
  if (spoke_.exchange(true)) return;
  const std::string word = end_->status().ToString().substr(0, kMaxLastWord);
  for (const Socket& socket : last_words_) {
    // Nothing else was ever sent there, so that it has room; and whoever is gone needs no word.
    if (socket.is_open()) Send(socket, std::as_bytes(std::span(word)));
  }
}

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeSocketCommunicators(
    const GroupOptions& options) {
  YOIO_ASSIGN_OR_RETURN(std::shared_ptr<GroupEnd> end, GroupEnd::Create());
  SocketMember member = {.world = options.world,
                         .ticket = options.ticket,
                         .host = options.host,
                         .deadline = Clock::now() + options.timeout};
  Listener listener;
  if (options.first_rank == 0) {
    auto* rendezvous = dynamic_cast<SocketRendezvous*>(options.rendezvous);
    YOIO_CHECK(rendezvous != nullptr) << "the process of rank 0 has the rendezvous";
    listener = rendezvous->TakeListener();
    YOIO_CHECK(listener.socket.is_open()) << "a rendezvous is for one group";
  }
  // Each rank waits for the others, those of this process too.
  std::vector<absl::StatusOr<std::vector<SocketPeer>>> joined(options.num_ranks);
  std::vector<std::thread> threads;
  for (int i = 0; i < options.num_ranks; ++i) {
    member.rank = options.first_rank + i;
    threads.emplace_back(
        [&joined, i, member, own = member.rank == 0 ? std::move(listener) : Listener()]() mutable {
          joined[i] = JoinSocketGroup(member, std::move(own));
        });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<std::unique_ptr<Communicator>> handles;
  for (int i = 0; i < options.num_ranks; ++i) {
    if (!joined[i].ok()) return joined[i].status();
    handles.push_back(
        std::make_unique<SocketCommunicator>(options.first_rank + i, *std::move(joined[i]), end));
  }
  return handles;
}

}  // namespace yoio
