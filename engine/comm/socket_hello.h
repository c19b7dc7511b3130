// What ranks of a `socket` group say to each other before their first collective. Numbers travel as this
// machine has them: one with another byte order fails at the magic number.
#ifndef YOIO_ENGINE_COMM_SOCKET_HELLO_H_
#define YOIO_ENGINE_COMM_SOCKET_HELLO_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/comm/socket.h"

namespace yoio {

using SocketSecret = std::array<unsigned char, 16>;

// A string without zeros, of fewer than N bytes.
template <size_t N>
using FixedString = std::array<char, N>;

enum class SocketChannel : int32_t { kData, kLastWords };

// Opens every connection. Magic, version and secret keep their places in every version.
struct SocketHello {
  static constexpr uint32_t kMagic = 0x6f696f79;  // "yoio"
  static constexpr uint32_t kVersion = 1;

  uint32_t magic = kMagic;
  uint32_t version = kVersion;
  SocketSecret secret = {};
  int32_t world = 0;
  int32_t rank = 0;
  SocketChannel channel = SocketChannel::kData;
  FixedString<32> service = {};  // where the rank listens, at the address that it comes from
};

// Where each rank listens; an empty service stands for one that has not come.
using SocketRoster = std::vector<SocketAddress>;

// Rank 0's answer: the roster, or why it refuses when `refusal` is not OK. Gives up when the peer does not
// take it at once, which only a stranger's fails to.
void SendReply(const Socket& socket, const absl::Status& refusal, const SocketRoster& roster);
// The next answer, for a world of this size; the refusal as it was given.
absl::StatusOr<SocketRoster> ReceiveReply(const Socket& socket, int world, TimePoint deadline);

// Takes the same time wherever the two differ.
bool SameSecret(const SocketSecret& a, const SocketSecret& b);

template <size_t N>
void Assign(FixedString<N>& to, const std::string& from) {
  to = {};
  from.copy(to.data(), N - 1);
}

template <size_t N>
std::string ToString(const FixedString<N>& from) {
  return std::string(from.data(), strnlen(from.data(), N));
}

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_SOCKET_HELLO_H_
