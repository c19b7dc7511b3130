// A data server that shuts down while calls keep coming.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "tests/server/in_process.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Calls over a connection of its own until a call fails in a way that is not to be tried again, or `stop`.
grpc::StatusCode CallUntil(const std::atomic<bool>& stop, const Address& server) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto stub = v1::InferenceService::NewStub(
      grpc::CreateCustomChannel(server.ToString(), grpc::InsecureChannelCredentials(), arguments));
  while (!stop) {
    grpc::ClientContext context;
    v1::GetLoadResponse response;
    const grpc::Status status = stub->GetLoad(&context, v1::GetLoadRequest(), &response);
    if (!status.ok() && status.error_code() != grpc::UNAVAILABLE) return status.error_code();
  }
  return grpc::OK;
}

TEST(GateTest, CallsThatComeWhileTheServerGoesMayBeTriedElsewhere) {
  constexpr int kRounds = 40;  // without the wait behind the gate about two of them fail
  for (int round = 0; round < kRounds; ++round) {
    InProcess server;
    std::atomic<bool> stop{false};
    std::array<grpc::StatusCode, 4> ends{};
    std::vector<std::thread> callers;
    for (grpc::StatusCode& end : ends) {
      callers.emplace_back([&] { end = CallUntil(stop, server.server->address()); });
    }
    std::this_thread::sleep_for(milliseconds(20));
    server.server->Shutdown(seconds(5));
    stop = true;
    for (std::thread& caller : callers) caller.join();
    for (const grpc::StatusCode end : ends) EXPECT_EQ(end, grpc::OK) << "round " << round;
  }
}

}  // namespace
}  // namespace yoio
