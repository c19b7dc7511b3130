#include "engine/comm/socket_acceptor.h"

#include <poll.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace yoio {
namespace {

// Connections that may be silent at a time: a stranger can neither take all files of the process nor keep
// the ranks out, because the oldest is dropped.
constexpr size_t kMaxNewcomers = 64;

}  // namespace

std::string HaveNotCome(const std::vector<int>& ranks) {
  const char* const noun = ranks.size() == 1 ? "rank " : "ranks ";
  return absl::StrCat(noun, absl::StrJoin(ranks, ", "), ranks.size() == 1 ? " has" : " have", " not come");
}

absl::Status SocketAcceptor::Run(TimePoint deadline,
                                 absl::FunctionRef<void(int, const SocketAddress&)> arrived) {
  for (std::vector<int> missing = MissingRanks(); !missing.empty(); missing = MissingRanks()) {
    if (Clock::now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          HaveNotCome(missing), refused_a_stranger_ ? "; somebody was refused for a wrong secret" : ""));
    }
    YOIO_RETURN_IF_ERROR(Sleep(deadline));
    TakeNewcomers();
    for (Newcomer& newcomer : newcomers_) {
      if (!Hear(newcomer) || !newcomer.socket.is_open()) continue;
      const SocketHello& hello = newcomer.hello;
      if (const absl::Status status = Check(hello); !status.ok()) {
        SendReply(newcomer.socket, status, {});
        return status;
      }
      Socket& place = Place(hello);
      place = std::move(newcomer.socket);
      if (hello.channel == SocketChannel::kData) {
        arrived(hello.rank, {PeerHost(place), ToString(hello.service)});
      }
    }
    std::erase_if(newcomers_, [](const Newcomer& newcomer) { return !newcomer.socket.is_open(); });
  }
  return absl::OkStatus();
}

std::vector<int> SocketAcceptor::MissingRanks() const {
  for (const auto connection : {&SocketPeer::data, &SocketPeer::last_words}) {
    std::vector<int> missing;
    for (int rank = me_.rank + 1; rank < me_.world; ++rank) {
      if (!(peers_[rank].*connection).is_open()) missing.push_back(rank);
    }
    if (!missing.empty()) return missing;
  }
  return {};
}

absl::Status SocketAcceptor::Sleep(TimePoint deadline) const {
  std::vector<pollfd> files = {{listener_.fd(), POLLIN, 0}};
  for (const Newcomer& newcomer : newcomers_) files.push_back({newcomer.socket.fd(), POLLIN, 0});
  const size_t first_peer = files.size();
  // A rank may have news for rank 0 already: only a close counts.
  for (const SocketPeer& peer : peers_) files.push_back({peer.data.fd(), POLLRDHUP, 0});
  if (poll(files.data(), files.size(), PollTimeout(deadline)) <= 0) return absl::OkStatus();
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    if (files[first_peer + rank].revents != 0) {
      return absl::UnavailableError(
          absl::StrCat("rank ", rank, " is gone while ", HaveNotCome(MissingRanks())));
    }
  }
  return absl::OkStatus();
}

void SocketAcceptor::TakeNewcomers() {
  for (Socket socket = Accept(listener_); socket.is_open(); socket = Accept(listener_)) {
    if (newcomers_.size() == kMaxNewcomers) newcomers_.erase(newcomers_.begin());
    newcomers_.push_back({std::move(socket), {}, 0});
  }
}

bool SocketAcceptor::Hear(Newcomer& newcomer) {
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(&newcomer.hello, 1));
  const SocketProgress progress = Receive(newcomer.socket, bytes.subspan(newcomer.received));
  newcomer.received += progress.bytes;
  if (progress.closed) newcomer.socket = Socket();
  if (newcomer.received < bytes.size()) return progress.closed;
  if (KnowsSecret(newcomer.hello)) return true;
  refused_a_stranger_ = true;
  SendReply(newcomer.socket, absl::PermissionDeniedError("wrong secret: the ticket is of another group"), {});
  newcomer.socket = Socket();
  return true;
}

bool SocketAcceptor::KnowsSecret(const SocketHello& hello) const {
  return hello.magic == SocketHello::kMagic && SameSecret(hello.secret, me_.secret);
}

absl::Status SocketAcceptor::Check(const SocketHello& hello) const {
  const std::string who = absl::StrCat("rank ", hello.rank);
  if (hello.version != me_.version) {
    return absl::FailedPreconditionError(
        absl::StrCat(who, " speaks version ", hello.version, ", rank ", me_.rank, " version ", me_.version));
  }
  if (hello.world != me_.world) {
    return absl::InvalidArgumentError(absl::StrCat(who, " is of a world of ", hello.world, ", rank ",
                                                   me_.rank, " of a world of ", me_.world));
  }
  if (hello.rank <= me_.rank || hello.rank >= me_.world) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, " comes to rank ", me_.rank, " of a world of ", me_.world));
  }
  if (Place(hello).is_open()) return absl::AlreadyExistsError(absl::StrCat("there is a second ", who));
  return absl::OkStatus();
}

Socket& SocketAcceptor::Place(const SocketHello& hello) const {
  SocketPeer& peer = peers_[hello.rank];
  return hello.channel == SocketChannel::kData ? peer.data : peer.last_words;
}

}  // namespace yoio
