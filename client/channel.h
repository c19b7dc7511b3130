// How a client reaches a server.
#ifndef YOIO_CLIENT_CHANNEL_H_
#define YOIO_CLIENT_CHANNEL_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

namespace yoio {

struct ChannelOptions {
  std::string server;           // HOST:PORT, or any other name that gRPC resolves
  bool own_connection = false;  // not shared with other channels of this process to the same server
};

// Does not connect yet. An HTTP proxy named in the environment is not used.
std::shared_ptr<grpc::Channel> OpenChannel(const ChannelOptions& options);

}  // namespace yoio

#endif  // YOIO_CLIENT_CHANNEL_H_
