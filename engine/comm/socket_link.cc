#include "engine/comm/socket_link.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <ostream>

#include "base/check.h"

namespace yoio {
namespace {

std::ostream& operator<<(std::ostream& out, const SocketFrame& frame) {
  return out << frame.call << ", the group's number " << frame.number;
}

}  // namespace

void SocketLink::Parts::Skip(size_t bytes) {
  for (iovec& part : parts) {
    const size_t skipped = std::min(bytes, part.iov_len);
    part.iov_base = static_cast<std::byte*>(part.iov_base) + skipped;
    part.iov_len -= skipped;
    bytes -= skipped;
  }
}

void SocketLink::Send(std::span<const std::byte> bytes, const SocketFrame* frame) {
  if (frame != nullptr) sent_ = *frame;
  out_.parts = {iovec{&sent_, frame != nullptr ? sizeof(sent_) : 0},
                iovec{const_cast<std::byte*>(bytes.data()), bytes.size()}};
}

void SocketLink::Receive(std::span<std::byte> bytes, const SocketFrame* frame) {
  frame_due_ = frame != nullptr;
  if (frame_due_) expected_ = *frame;
  in_.parts = {iovec{&received_, frame_due_ ? sizeof(received_) : 0}, iovec{bytes.data(), bytes.size()}};
}

short SocketLink::events() const {
  return static_cast<short>((out_.done() ? 0 : POLLOUT) | (in_.done() ? 0 : POLLIN));
}

SocketProgress SocketLink::Advance() {
  const SocketProgress sent =
      Move(out_, [this](msghdr& message) { return sendmsg(socket_.fd(), &message, MSG_NOSIGNAL); });
  const SocketProgress received =
      Move(in_, [this](msghdr& message) { return recvmsg(socket_.fd(), &message, 0); });
  if (frame_due_ && in_.frame_done()) CheckFrame();
  return {sent.bytes + received.bytes, received.closed || (sent.closed && received.bytes == 0)};
}

template <typename Call>
SocketProgress SocketLink::Move(Parts& parts, const Call& call) {
  if (parts.done()) return {};
  msghdr message = {};
  message.msg_iov = parts.parts.data();
  message.msg_iovlen = parts.parts.size();
  const ssize_t moved = call(message);
  if (moved <= 0) return {0, moved == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)};
  parts.Skip(static_cast<size_t>(moved));
  return {static_cast<size_t>(moved), false};
}

void SocketLink::CheckFrame() {
  frame_due_ = false;
  YOIO_CHECK(received_ == expected_) << "the ranks of a group differ: " << expected_ << "; " << received_;
}

}  // namespace yoio
