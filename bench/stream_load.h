// Streams that are read as fast as they come, over loopback TCP.
#ifndef YOIO_BENCH_STREAM_LOAD_H_
#define YOIO_BENCH_STREAM_LOAD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "bench/certificate.h"

namespace grpc {
class Channel;
class Server;
class Service;
}  // namespace grpc

namespace yoio::bench {

// A gRPC server of one service and a channel to it, in this process. TLS when there is a certificate.
class Loopback {
 public:
  // `service` outlives it.
  Loopback(grpc::Service& service, const std::optional<Certificate>& certificate);
  ~Loopback();
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

// What reading took. `cpu` is that of the whole process: client, server and kernel.
struct Cost {
  double wall = 0, cpu = 0;  // seconds
  int64_t messages = 0;      // with new output in them
  int64_t text_bytes = 0;    // in those
};

// Calls Generate `streams` times at once for `max_tokens` tokens each and reads every stream to its end, with
// gRPC's callback API. Each must end well.
Cost ReadStreams(const Loopback& loopback, int streams, int max_tokens);

}  // namespace yoio::bench

#endif  // YOIO_BENCH_STREAM_LOAD_H_
