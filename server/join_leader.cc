#include "server/join_leader.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/link.h"
#include "server/token.h"
#include "yoio/internal/v1/followers.grpc.pb.h"

namespace yoio {
namespace {

using internal::v1::FollowerService;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kRetryPause = milliseconds(200);
constexpr Duration kLogInterval = seconds(5);
// How long the last messages may take: a leader that was stopped takes none.
constexpr Duration kCloseGrace = milliseconds(500);
// How long one attempt may take: a leader that is there answers in less, wherever it is.
constexpr milliseconds kAttemptTimeout = seconds(5);

// The follower's end of a link. Deletes itself when gRPC is done with it.
class FollowerEnd final : public grpc::ClientBidiReactor<LinkMessage, LinkMessage>, public LinkStream {
 public:
  FollowerEnd(FollowerService::Stub& stub, const JoinOptions& options)
      : link_(std::make_shared<Link>(*this, "the leader at " + options.leader.ToString())) {
    context_.AddMetadata(kTokenMetadataKey, TokenMetadata(options.token));
    stub.async()->Join(&context_, this);
    StartRead(&incoming_);
  }

  const std::shared_ptr<Link>& link() const { return link_; }

  void Write(const LinkMessage& message) override { StartWrite(&message); }
  void Finish() override {}  // the leader ends the call
  void Cancel() override { context_.TryCancel(); }

  void OnReadInitialMetadataDone(bool ok) override {
    if (ok) link_->OnOpened();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return link_->OnReadsEnded();
    link_->OnRead(std::move(incoming_));
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override { link_->OnWritten(ok); }
  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<Link> link = link_;
    const absl::Status ended(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
    link->Detach();
    delete this;  // before others learn of the end: a thread of gRPC must not be the last to hold the channel
    link->OnDone(ended);
  }

 private:
  grpc::ClientContext context_;
  LinkMessage incoming_;
  const std::shared_ptr<Link> link_;
};

// Gives what was sent a moment to leave, since the process may end next.
class FollowerPipe final : public LinkPipe {
 public:
  FollowerPipe(std::shared_ptr<Link> link, std::shared_ptr<grpc::Channel> channel)
      : LinkPipe(std::move(link)), channel_(std::move(channel)) {}
  ~FollowerPipe() override {
    Break(absl::CancelledError("the follower has closed the pipe"));
    link().AwaitDone(Clock::now() + kCloseGrace);
  }

 private:
  const std::shared_ptr<grpc::Channel> channel_;
};

// The leader must be who `leader.host` says.
std::shared_ptr<grpc::ChannelCredentials> MakeCredentials(const std::optional<TlsMaterial>& tls) {
  if (!tls) return grpc::InsecureChannelCredentials();
  return grpc::SslCredentials(
      {.pem_root_certs = tls->ca, .pem_private_key = tls->key, .pem_cert_chain = tls->certificate});
}

std::shared_ptr<grpc::Channel> MakeChannel(const JoinOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxLinkMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxLinkMessageBytes);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLinkLookaheadBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(kLinkKeepaliveTime.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(kLinkKeepaliveTimeout.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // no limit: steps may be far apart
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(milliseconds(200).count()));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(milliseconds(1000).count()));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(kAttemptTimeout.count()));
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // nodes reach each other directly
  return grpc::CreateCustomChannel(options.leader.ToString(), MakeCredentials(options.tls), arguments);
}

// Whether another attempt may find what this one did not.
bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Pipe>> JoinLeader(const JoinOptions& options, const Logger& log) {
  const TimePoint start = Clock::now();
  const TimePoint deadline = start + options.timeout;
  const std::shared_ptr<grpc::Channel> channel = MakeChannel(options);
  const std::unique_ptr<FollowerService::Stub> stub = FollowerService::NewStub(channel);
  TimePoint next_log = start;
  while (true) {
    auto* end = new FollowerEnd(*stub, options);
    const std::shared_ptr<Link> link = end->link();
    auto pipe = std::make_unique<FollowerPipe>(link, channel);
    end->StartCall();  // from here on it may be gone
    const absl::Status opened = link->WaitUntilOpened(std::min(deadline, Clock::now() + 2 * kAttemptTimeout));
    if (opened.ok()) return pipe;
    if (!MayPass(opened)) return opened;
    const TimePoint now = Clock::now();
    if (now + kRetryPause >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("no leader at ", options.leader.ToString(), ": ", opened.message()));
    }
    if (now >= next_log) {
      next_log = now + kLogInterval;
      log.Write(std::move(LogLine(LogLevel::kInfo, "waiting for the leader")
                              .With("leader", options.leader.ToString())
                              .With("waited_s", now - start)
                              .With("message", std::string(opened.message()))));
    }
    pipe.reset();
    std::this_thread::sleep_for(kRetryPause);
  }
}

}  // namespace yoio
