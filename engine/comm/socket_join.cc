#include "engine/comm/socket_join.h"

#include <sys/random.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/comm/socket_acceptor.h"
#include "engine/comm/socket_hello.h"

namespace yoio {
namespace {

absl::Status SayHello(const Socket& socket, const SocketHello& hello, TimePoint deadline) {
  return SendAll(socket, std::as_bytes(std::span(&hello, 1)), deadline);
}

absl::Status AwaitMet(const std::vector<SocketPeer>& peers, TimePoint deadline) {
  for (size_t rank = 1; rank < peers.size(); ++rank) {
    std::byte met;
    const absl::Status status = ReceiveAll(peers[rank].data, {&met, 1}, deadline);
    if (!status.ok()) {
      return absl::Status(
          status.code(),
          absl::StrCat("rank ", rank, " has not met the others: ", std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

// Rank 0: takes the others in, tells them of each other and waits until they have met.
absl::StatusOr<std::vector<SocketPeer>> Lead(const SocketMember& member, const SocketHello& hello,
                                             const Listener& listener) {
  std::vector<SocketPeer> peers(member.world);
  SocketRoster roster(member.world);
  roster[0].service = listener.service;
  const auto tell_all = [&](const absl::Status& refusal) {
    for (const SocketPeer& peer : peers) {
      if (peer.data.is_open()) SendReply(peer.data, refusal, roster);
    }
  };
  SocketAcceptor acceptor(hello, listener.socket, peers);
  absl::Status status = acceptor.Run(member.deadline, [&](int rank, const SocketAddress& address) {
    roster[rank] = address;
    tell_all(absl::OkStatus());
  });
  if (status.ok()) status = AwaitMet(peers, member.deadline);
  tell_all(status);
  if (!status.ok()) return status;
  return peers;
}

std::vector<int> MissingRanks(const SocketRoster& roster) {
  if (roster[0].service.empty()) return {0};  // has not answered at all
  std::vector<int> missing;
  for (size_t rank = 0; rank < roster.size(); ++rank) {
    if (roster[rank].service.empty()) missing.push_back(static_cast<int>(rank));
  }
  return missing;
}

// The address of every rank, as soon as rank 0 knows it.
absl::StatusOr<SocketRoster> AwaitRoster(const Socket& rank0, int world, TimePoint deadline) {
  SocketRoster roster(world);
  while (!MissingRanks(roster).empty()) {
    absl::StatusOr<SocketRoster> reply = ReceiveReply(rank0, world, deadline);
    if (absl::IsDeadlineExceeded(reply.status())) {
      return absl::DeadlineExceededError(HaveNotCome(MissingRanks(roster)));
    }
    if (!reply.ok()) return reply.status();
    roster = *std::move(reply);
  }
  return roster;
}

// Any other rank: connects to the lower ones, waits for the higher ones, then for rank 0's last answer.
absl::StatusOr<std::vector<SocketPeer>> Follow(const SocketMember& member, SocketHello hello,
                                               const SocketAddress& rank0) {
  std::vector<SocketPeer> peers(member.world);
  YOIO_ASSIGN_OR_RETURN(peers[0].data, Connect(rank0, member.deadline));
  YOIO_ASSIGN_OR_RETURN(const Listener listener, Listen(LocalHost(peers[0].data)));
  Assign(hello.service, listener.service);
  YOIO_RETURN_IF_ERROR(SayHello(peers[0].data, hello, member.deadline));
  YOIO_ASSIGN_OR_RETURN(SocketRoster roster, AwaitRoster(peers[0].data, member.world, member.deadline));
  roster[0] = rank0;
  for (int rank = 0; rank < member.rank; ++rank) {
    for (const SocketChannel channel : {SocketChannel::kData, SocketChannel::kLastWords}) {
      Socket& socket = channel == SocketChannel::kData ? peers[rank].data : peers[rank].last_words;
      if (socket.is_open()) continue;
      YOIO_ASSIGN_OR_RETURN(socket, Connect(roster[rank], member.deadline));
      hello.channel = channel;
      YOIO_RETURN_IF_ERROR(SayHello(socket, hello, member.deadline));
    }
  }
  SocketAcceptor acceptor(hello, listener.socket, peers);
  YOIO_RETURN_IF_ERROR(acceptor.Run(member.deadline, [](int, const SocketAddress&) {}));
  constexpr std::byte kMet{1};
  YOIO_RETURN_IF_ERROR(SendAll(peers[0].data, {&kMet, 1}, member.deadline));
  YOIO_RETURN_IF_ERROR(ReceiveReply(peers[0].data, member.world, member.deadline).status());
  return peers;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SocketRendezvous>> SocketRendezvous::Create(const std::string& host) {
  YOIO_ASSIGN_OR_RETURN(Listener listener, Listen(host));
  SocketSecret secret;
  YOIO_CHECK_EQ(getrandom(secret.data(), secret.size(), 0), static_cast<ssize_t>(secret.size()));
  std::string ticket = absl::StrCat(std::string(secret.begin(), secret.end()), listener.service);
  return std::unique_ptr<SocketRendezvous>(new SocketRendezvous(std::move(listener), std::move(ticket)));
}

absl::StatusOr<std::vector<SocketPeer>> JoinSocketGroup(const SocketMember& member, Listener listener) {
  SocketHello hello;
  if (member.ticket.size() <= hello.secret.size() ||
      member.ticket.size() >= hello.secret.size() + hello.service.size()) {
    return absl::InvalidArgumentError("this is not the ticket of a socket group");
  }
  std::copy_n(member.ticket.begin(), hello.secret.size(), hello.secret.begin());
  hello.world = member.world;
  hello.rank = member.rank;
  if (member.rank == 0) return Lead(member, hello, listener);
  return Follow(member, hello, {member.host, member.ticket.substr(hello.secret.size())});
}

}  // namespace yoio
