// The data connection between two ranks, both ways at once.
#ifndef YOIO_ENGINE_COMM_SOCKET_LINK_H_
#define YOIO_ENGINE_COMM_SOCKET_LINK_H_

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "engine/comm/collective.h"
#include "engine/comm/socket.h"

namespace yoio {

// Goes before the bytes of a collective, and must be the same at both ends.
struct SocketFrame {
  CollectiveCall call = {};
  uint64_t number = 0;  // of the collective since the group has met

  bool operator==(const SocketFrame&) const = default;
};

// What one rank sends to a peer and what it receives from it at the moment. Never blocks. Not thread-safe.
class SocketLink {
 public:
  SocketLink() = default;
  explicit SocketLink(Socket socket) : socket_(std::move(socket)) {}

  // The next bytes to go out, to come in; `frame`, when given, before them. The ones before them have gone;
  // the memory stays until these have.
  void Send(std::span<const std::byte> bytes, const SocketFrame* frame = nullptr);
  void Receive(std::span<std::byte> bytes, const SocketFrame* frame = nullptr);

  bool idle() const { return out_.done() && in_.done(); }
  // What poll() is to wait for.
  short events() const;
  int fd() const { return socket_.fd(); }

  // Moves what can be moved. Closed when the peer is. Dies when the peer's frame is not the one expected.
  SocketProgress Advance();

 private:
  // Bytes in two parts, a frame and what follows it, of which some have moved.
  struct Parts {
    std::array<iovec, 2> parts = {};

    bool done() const { return parts[0].iov_len + parts[1].iov_len == 0; }
    bool frame_done() const { return parts[0].iov_len == 0; }
    void Skip(size_t bytes);
  };

  // One way of Advance; `call` is sendmsg or recvmsg.
  template <typename Call>
  SocketProgress Move(Parts& parts, const Call& call);
  void CheckFrame();

  Socket socket_;
  Parts out_;
  Parts in_;
  SocketFrame sent_;      // what the frame of out_ points to
  SocketFrame expected_;  // what received_ must be
  SocketFrame received_;
  bool frame_due_ = false;  // received_ is still to be checked
};

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_SOCKET_LINK_H_
