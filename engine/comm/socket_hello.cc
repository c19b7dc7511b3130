#include "engine/comm/socket_hello.h"

#include <cstring>

#include "base/status.h"

namespace yoio {
namespace {

struct ReplyHeader {
  int32_t code;  // absl::StatusCode
  uint32_t bytes;
};

struct Place {
  FixedString<64> host;
  FixedString<32> service;
};

constexpr uint32_t kMaxText = 1024;

template <typename T>
std::span<const std::byte> BytesOf(const T& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

void SendReply(const Socket& socket, const absl::Status& refusal, const SocketRoster& roster) {
  std::vector<Place> places(refusal.ok() ? roster.size() : 0);
  for (size_t rank = 0; rank < places.size(); ++rank) {
    Assign(places[rank].host, roster[rank].host);
    Assign(places[rank].service, roster[rank].service);
  }
  const std::string text(refusal.message().substr(0, kMaxText));
  const std::span<const std::byte> content = refusal.ok() ? BytesOf(places) : BytesOf(text);
  const ReplyHeader header = {static_cast<int32_t>(refusal.code()), static_cast<uint32_t>(content.size())};
  const TimePoint now = Clock::now();
  if (SendAll(socket, BytesOf(std::span(&header, 1)), now).ok()) SendAll(socket, content, now).IgnoreError();
}

absl::StatusOr<SocketRoster> ReceiveReply(const Socket& socket, int world, TimePoint deadline) {
  ReplyHeader header;
  YOIO_RETURN_IF_ERROR(ReceiveAll(socket, std::as_writable_bytes(std::span(&header, 1)), deadline));
  if (header.code != 0) {
    std::string text(std::min(header.bytes, kMaxText), '\0');
    YOIO_RETURN_IF_ERROR(ReceiveAll(socket, std::as_writable_bytes(std::span(text)), deadline));
    return absl::Status(static_cast<absl::StatusCode>(header.code), text);
  }
  std::vector<Place> places(world);
  if (header.bytes != BytesOf(places).size()) return absl::InvalidArgumentError("rank 0 has another world");
  YOIO_RETURN_IF_ERROR(ReceiveAll(socket, std::as_writable_bytes(std::span(places)), deadline));
  SocketRoster roster;
  for (const Place& place : places) roster.push_back({ToString(place.host), ToString(place.service)});
  return roster;
}

bool SameSecret(const SocketSecret& a, const SocketSecret& b) {
  unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
  return difference == 0;
}

}  // namespace yoio
